"""Our framers judged by software that nobody here wrote: encode here and decode there, and the reverse.

Where a stranger is wrong, a test shows what it does, so that the test says so on the day they mend it.
"""
