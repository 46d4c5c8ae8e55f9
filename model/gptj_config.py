"""What a GPT-J with 8-bit weights is made from: Hugging Face's numbers, and how weights and conversations are written.

Its own `model_type`, because transformers' GPT-J would load the codes as float weights with only a warning.
"""

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, GPTJConfig


@strict
class GPTJ8bitConfig(GPTJConfig):
    r"""
    block_size (`int`, *optional*, defaults to 4096): values that share one scale; None means plain float weights.
    num_tokens (`int`, *optional*): ids from here on are padding rows whose logits are masked; None means vocab_size.
    prompt_format (`str`, *optional*, defaults to `"plain"`): how a conversation is written for this checkpoint.
    """

    model_type = "tertulia_gptj"

    block_size: int | None = 4096
    num_tokens: int | None = None
    prompt_format: str = "plain"


AutoConfig.register(GPTJ8bitConfig.model_type, GPTJ8bitConfig)
