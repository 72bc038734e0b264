"""Which spans of the context is each statement of a response made of?"""
