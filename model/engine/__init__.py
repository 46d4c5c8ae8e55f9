"""Generation: sampling from logits, and the engine that streams replies and keeps the cache of a conversation."""
