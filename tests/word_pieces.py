"""A tokenizer of a few words, and random masked language models for it."""

import torch

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WHOLE = "the film plot actor was dull fine bright it don t".split()
OTHER = ["##s", "##ly", "##ing", ".", ",", "'", "1990", "7"]
TEXTS = [
    "The film was dull.",
    "the PLOT was brightly fine, it don't Bright films",
    "fine",
    "1990, 7.",
    "the actor , the film , the plot was fine and it was dull the bright film the fine plot",
]


def word_piece(mask="[MASK]", cased=False):
    """A BERT tokenizer of a few words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = WHOLE + [word.capitalize() for word in WHOLE if cased]
    vocab = {token: i for i, token in enumerate(SPECIAL + words + OTHER)}
    raw = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")
    return PreTrainedTokenizerFast(tokenizer_object=raw, mask_token=mask, **names)


def random_model(tokenizer, positions=64):
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    shape = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)
    config = BertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=positions, initializer_range=0.5, **shape
    )
    return BertForMaskedLM(config).eval()
