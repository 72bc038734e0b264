"""Which sentences of a chain of thought decided the answer?"""
