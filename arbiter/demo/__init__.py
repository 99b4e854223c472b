"""The demo: a market that was written by hand, and servers that really run on loopback.

Nothing in here rents a machine or answers with a model, and all of it says so: quotes carry a
source that begins with "demo:", and every answer of a server the mark of `arbiter.demo.answers`.
"""
