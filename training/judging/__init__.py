"""Whether a candidate adapter may serve: measured against the one in service and the bare base, then judged by rules.

`contest.judge` measures (torch), `gate.decide` decides from the figures alone, `judgement` keeps them as JSON.
"""
