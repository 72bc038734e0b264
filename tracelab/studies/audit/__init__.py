"""Which step decided that an agent's run failed?"""
