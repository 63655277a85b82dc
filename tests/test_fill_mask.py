"""Words filled in: what transformers' own pipeline gives, on a BERT that transformers saved."""

import pytest
import torch
import transformers
from test_bert import randomize_

from companion import assets
from companion.bert_heads import BertForMaskedLM, fill_in
from companion.wordpiece import WordPieceTokenizer

TEXTS = ("The capital of France is [MASK].", "[MASK] is it?", "A short one, then a [MASK] one.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small BERT of bert-base-uncased's vocabulary, all tensors random, as transformers saves."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("fill-mask")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.BertConfig(**sizes, intermediate_size=64)
    randomize_(transformers.BertForMaskedLM(config)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def wordpiece():
    return WordPieceTokenizer.from_pretrained("all-MiniLM-L6-v2")


def read(wordpiece, text):
    return torch.tensor([wordpiece.encode(text, allowed_special=["[MASK]"]).ids])


@pytest.mark.parametrize("text", TEXTS)
def test_the_five_likeliest_words_are_those_of_transformers_pipeline(folder, wordpiece, text):
    tokenizer = transformers.BertTokenizerFast.from_pretrained(
        assets.model_folder("all-MiniLM-L6-v2")
    )
    theirs = transformers.BertForMaskedLM.from_pretrained(folder).eval()
    pipeline = transformers.FillMaskPipeline(model=theirs, tokenizer=tokenizer, device="cpu")
    wanted = pipeline(text, top_k=5)
    shares, ids = fill_in(
        BertForMaskedLM.from_pretrained(folder), read(wordpiece, text), wordpiece.mask_id
    )
    assert ids.tolist() == [[one["token"] for one in wanted]]
    found = ids[0].tolist()
    assert wordpiece.tokens(found) == tokenizer.convert_ids_to_tokens(found)
    torch.testing.assert_close(shares[0], torch.tensor([one["score"] for one in wanted]))


def test_every_hole_of_every_text_is_filled_as_if_its_text_were_alone(folder, wordpiece):
    model = BertForMaskedLM.from_pretrained(folder)
    batch = wordpiece.encode_batch(["[MASK] [MASK].", *TEXTS], allowed_special=["[MASK]"])
    shares, ids = fill_in(model, batch.ids, wordpiece.mask_id, 3, batch.attention_mask)
    assert ids.shape == (5, 3)
    assert (shares.diff(dim=1) <= 0).all()
    alone = [fill_in(model, read(wordpiece, text), wordpiece.mask_id, 3) for text in TEXTS]
    assert torch.equal(ids[2:], torch.cat([ids for _, ids in alone]))
    torch.testing.assert_close(shares[2:], torch.cat([shares for shares, _ in alone]))


def test_a_text_without_a_hole_is_refused(folder, wordpiece):
    with pytest.raises(ValueError, match="nothing to fill in"):
        fill_in(BertForMaskedLM.from_pretrained(folder), torch.tensor([[101, 102]]), 103)
