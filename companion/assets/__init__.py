"""What the lessons read and did not make: texts, GPT-2's encoding, released weights.

    text("taylorswift", fallback="python_docs")   a text; with a fallback, nothing is fetched
    encoding("gpt2")                              GPT-2's tokenizer, as tiktoken has it
    model_folder("gpt2")                          the folder with a released model's files
    at_hand()                                     what is on this machine already
    python -m companion.assets NAME ...           fetches; without names, lists

Each is looked for on this machine, and fetched only where it is not there. A file whose bytes are
not the expected ones is an AssetError wherever it lies: it is not used, not deleted, and nothing
else is used in its place. Variables, all optional:

    COMPANION_ASSETS    a folder of copies: taylorswift.txt, tinyshakespeare.txt, tiktoken/ (the two
                        files as tiktoken names them), models/NAME/
    COMPANION_CACHE     where texts and the encoding are kept once fetched, in that same form, so
                        that a copy of it serves another machine; else in the system's cache folder
    TIKTOKEN_CACHE_DIR  tiktoken's own, used in place of the tiktoken/ in our cache
    HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE  huggingface_hub's own, read when it is first imported
"""

from . import files, models, texts
from .files import AssetError, encoding
from .models import model_folder
from .texts import text

__all__ = ["AssetError", "at_hand", "encoding", "model_folder", "text"]


def at_hand() -> dict[str, bool]:
    """Whether each asset is on this machine, by the name that `python -m companion.assets` takes.

    Touches no network and verifies nothing: a file that is there but altered counts as at hand,
    and raises when it is used. A COMPANION_ASSETS that names no folder is an AssetError here too.
    """
    return {
        **{name: texts.on_this_machine(name) for name in [*texts.BUILT_IN, *texts.PINS]},
        "gpt2-encoding": files.encoding_on_this_machine("gpt2"),
        **{name: models.on_this_machine(name) for name in models.MODELS},
    }
