"""The words: what the calls mean.  Frozen dataclasses, the .NET names of their types, one codec.

Must not know how a document travels, nor where a file lies; there is no I/O here.
"""
