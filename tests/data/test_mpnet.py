"""A teacher that is no BERT: MPNet, with its own positions and no segments."""

import torch
from conftest import save_tokenizer

from lrc_lib import run


def test_an_mpnet_teaches_with_layers_and_logits(tmp_path, tiny_spec):
    from transformers import MPNetConfig, MPNetModel

    torch.manual_seed(0)
    config = MPNetConfig(
        vocab_size=save_tokenizer(tmp_path),
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=130,
        pad_token_id=0,
    )
    MPNetModel(config).save_pretrained(tmp_path)
    spec = tiny_spec.replace(teacher=str(tmp_path), epochs=1)
    result = run(spec, tmp_path / "out", "cpu")
    history = result.history
    assert history[["layers", "soft", "hard"]].notna().any().all()
    assert result.student().config.model_type == "bert"
    assert result.student().config.num_hidden_layers == spec.student_layers
