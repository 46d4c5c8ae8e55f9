"""Training beside a bot on the same GPU: it takes what is free, and leaves room for the bot's replies."""

from training.errors import TuneError

RESERVE_MB = 1024  # for what a reply needs beside what the bot holds already


def on_gpu(device: str) -> bool:
    """Whether a process that is told this device works on a GPU."""
    import torch

    return device != "cpu" and torch.cuda.is_available()


def leave_room(device: str) -> None:
    """Let this process take no more than what is free on its GPU now, less the reserve. Without a GPU nothing happens.

    What goes beyond raises torch.OutOfMemoryError here, and never in the bot. Raises TuneError if nothing is free.
    """
    import torch

    if not on_gpu(device):
        return
    free, total = torch.cuda.mem_get_info()
    own = torch.cuda.memory_reserved()
    room = free + own - RESERVE_MB * 2**20
    if room <= 0:
        raise TuneError(
            f"{free / 2**20:,.0f} MB are free on the GPU, and {RESERVE_MB} stay free for replies: stop what else runs "
            "there, or train with TERTULIA_DEVICE=cpu"
        )
    torch.cuda.set_per_process_memory_fraction(min(1.0, room / total))


def at_most(device: str, memory_gb: float) -> None:
    """Let this process take no more than so many GB (10^9 bytes) of its GPU, nor more than it might before."""
    import torch

    if device.startswith("cuda"):
        index = torch.device(device).index  # None, the current one: torch refuses "cuda" by name here
        total = torch.cuda.get_device_properties(index).total_memory
        limit = min(memory_gb * 1e9 / total, torch.cuda.get_per_process_memory_fraction(index))
        torch.cuda.set_per_process_memory_fraction(limit, index)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch found too little memory, on the GPU or for a tensor of the CPU's."""
    return type(error).__name__ == "OutOfMemoryError" or "not enough memory" in str(error)
