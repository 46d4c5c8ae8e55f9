"""Training an adapter on a frozen snapshot of dialogues: LoRA on the 8-bit base, by example (SFT) or preference (DPO).

`presets` and `results` import no torch; `trainer` is where a run begins.
"""
