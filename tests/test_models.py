import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from lrc_lib.errors import InputError, LrcError
from lrc_lib.models import (
    Projection,
    attention_scores,
    backbone,
    build_student,
    check_scores,
    count_parameters,
    embeddings_replaced,
    layer_pairs,
    load_encoder_classifier,
    load_tokenizer,
    most_tokens,
    start_from_teacher,
    trim_vocabulary,
)
from lrc_lib.runs.device import resolve_device


def test_parameter_counts_of_the_paper():
    from transformers import BertConfig, BertModel

    student = build_student()
    assert count_parameters(student.bert) == 14_350_248
    shared = Projection(312, 768)
    assert count_parameters(student.bert) + count_parameters(shared) == 14_589_864
    with_bias = Projection(312, 768, bias=True)
    assert count_parameters(student.bert) + count_parameters(with_bias) == 14_590_632
    with torch.device("meta"):
        assert count_parameters(BertModel(BertConfig())) == 109_482_240


@pytest.mark.parametrize(
    "student, teacher, mapping, expected",
    [
        (4, 12, "uniform", [3, 6, 9, 12]),
        (4, 6, "uniform", [2, 3, 5, 6]),
        (4, 12, "top", [9, 10, 11, 12]),
        (4, 12, "bottom", [1, 2, 3, 4]),
        (4, 12, "1,5,9,12", [1, 5, 9, 12]),
        (4, 12, [12, 9, 6, 3], [12, 9, 6, 3]),
    ],
)
def test_layer_map(student, teacher, mapping, expected):
    assert layer_pairs(student, teacher, mapping) == list(enumerate(expected, start=1))


def test_penultimate_layer_alone():
    assert layer_pairs(4, 12, "penultimate") == [(3, 11)]


@pytest.mark.parametrize("mapping", ["midle", "1,2", "1,2,3,13", "0,1,2,3"])
def test_bad_layer_map(mapping):
    with pytest.raises(InputError, match="layer_map"):
        layer_pairs(4, 12, mapping)


def test_student_deeper_than_teacher():
    with pytest.raises(InputError, match="more than the teacher"):
        layer_pairs(8, 6)


def test_heads_must_divide_width():
    with pytest.raises(InputError, match="multiple"):
        build_student(hidden=100, heads=12)


def test_projections_in_specs_are_those_of_the_model():
    from lrc_lib.models import PROJECTIONS
    from lrc_lib.runs.spec import FIELDS

    assert FIELDS["projection"].metadata["choices"] == PROJECTIONS


def test_per_layer_projection():
    shared, own = Projection(8, 16, layers=3), Projection(8, 16, layers=3, kind="per_layer")
    assert count_parameters(own) == 3 * count_parameters(shared) == 3 * 8 * 16
    x = torch.randn(2, 5, 8)
    assert torch.equal(shared(x, 0), shared(x, 2))
    assert not torch.equal(own(x, 0), own(x, 2))


def test_replaced_embeddings_are_where_the_student_starts():
    torch.manual_seed(0)
    model = build_student(2, 24, 32, 2, vocab_size=40).eval()
    ids = torch.randint(5, 40, (3, 7))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    embeddings = model.bert.embeddings(input_ids=ids)
    plain = model(ids, attention_mask=mask, output_hidden_states=True)
    with embeddings_replaced(model, embeddings):
        same = model(ids, attention_mask=mask, output_hidden_states=True)
    assert torch.equal(plain.logits, same.logits)
    with embeddings_replaced(model, embeddings + 1):
        moved = model(ids, attention_mask=mask, output_hidden_states=True)
    assert torch.equal(moved.hidden_states[0], embeddings + 1)
    assert not torch.allclose(moved.logits, plain.logits)
    assert torch.equal(model(ids, attention_mask=mask).logits, plain.logits)  # put back


def test_a_student_starts_from_mapped_layers_and_fewer_positions(tiny_teacher):
    teacher = load_encoder_classifier(tiny_teacher, 2)
    student = build_student(2, 32, 64, 4, vocab_size=20)
    positions = student.bert.embeddings.position_embeddings.weight.detach().clone()
    assert start_from_teacher(student, teacher, "top") == "layers 3, 4 of the teacher"
    for m, n in ((0, 2), (1, 3)):
        ours, theirs = (
            x.bert.encoder.layer[i].state_dict() for x, i in ((student, m), (teacher, n))
        )
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    ours, theirs = student.bert.embeddings, teacher.bert.embeddings
    assert torch.equal(ours.word_embeddings.weight, theirs.word_embeddings.weight[:20])
    assert torch.equal(ours.position_embeddings.weight[:128], theirs.position_embeddings.weight)
    assert torch.equal(ours.position_embeddings.weight[128:], positions[128:])
    assert torch.equal(student.bert.pooler.dense.weight, teacher.bert.pooler.dense.weight)
    for shape in ((2, 24, 64, 4), (2, 32, 32, 4), (2, 32, 64, 2)):
        other = build_student(*shape, vocab_size=20)
        before = {name: value.clone() for name, value in other.state_dict().items()}
        assert start_from_teacher(other, teacher).startswith("random weights")
        assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())


def test_attention_scores_are_what_transformers_takes_the_softmax_of(tiny_teacher):
    model = load_encoder_classifier(tiny_teacher, 2)
    getattr(model, "set_attn_implementation", str)("eager")  # an older transformers does it itself
    ids = torch.randint(5, 30, (2, 6))
    output = model(ids, output_hidden_states=True, output_attentions=True)
    for n in (1, 4):
        scores = attention_scores(model, output.hidden_states[n - 1], n)
        torch.testing.assert_close(scores.softmax(-1), output.attentions[n - 1])


def test_attention_scores_that_cannot_be_compared_are_refused(tiny_teacher):
    teacher = load_encoder_classifier(tiny_teacher, 2)
    check_scores(build_student(2, 24, 32, 4, vocab_size=20), teacher)
    with pytest.raises(InputError, match="the student's 3 heads, but it is of type bert and has 4"):
        check_scores(build_student(2, 24, 32, 3, vocab_size=20), teacher)
    teacher.config.model_type = "mpnet"
    with pytest.raises(InputError, match="of type bert, .* it is of type mpnet"):
        check_scores(build_student(2, 24, 32, 4, vocab_size=20), teacher)


def test_trimmed_embedding_reads_and_learns_as_the_whole_one():
    model = build_student(1, 8, 8, 2, vocab_size=20, pad_token_id=1)
    before = model.get_input_embeddings().weight.detach().clone()
    ids = torch.tensor([[7, 3, 7, 1], [3, 12, 1, 1]])
    plain = model.get_input_embeddings()(ids)
    trimmed = trim_vocabulary(model, [ids.flatten().numpy()])
    assert trimmed.weight.shape == (4, 8)  # tokens 1, 3, 7 and 12
    assert count_parameters(model) == count_parameters(build_student(1, 8, 8, 2, 4))
    assert torch.equal(trimmed(ids), plain)
    trimmed(ids).sum().backward()
    assert trimmed.weight.grad[:, 0].tolist() == [0, 2, 2, 1]  # padding learns nothing
    with torch.no_grad():
        trimmed.weight += 1
    model.set_input_embeddings(trimmed.restore(0.5))
    after = model.get_input_embeddings().weight
    used = [1, 3, 7, 12]
    assert torch.equal(after[used], before[used] + 1)
    rest = [i for i in range(20) if i not in used]
    assert torch.equal(after[rest], before[rest] * 0.5)


def test_teacher_from_a_folder(tiny_teacher):
    model = load_encoder_classifier(tiny_teacher, 3)
    assert model.config.num_labels == 3 and not model.training
    assert backbone(model).config.hidden_size == 32
    assert load_tokenizer(tiny_teacher).pad_token_id == 0


def test_missing_and_broken_teacher_folders(tmp_path):
    with pytest.raises(InputError, match="No teacher folder"):
        load_encoder_classifier(str(tmp_path / "nowhere"), 2)
    with pytest.raises(InputError, match="teacher"):
        load_encoder_classifier(str(tmp_path), 2)


@pytest.mark.parametrize(
    "renamed, says",
    [
        (lambda name: f"module.{name}", r"lacks 69 weights of a bert .* also holds module\."),
        (lambda name: name if "layer.3" not in name else "x" + name, "lacks 16 .* as bert.encoder"),
    ],
)
def test_weights_that_did_not_load_are_no_teacher(renamed, says, tiny_teacher, tmp_path):
    folder = shutil.copytree(tiny_teacher, tmp_path / "teacher")
    state = load_file(folder / "model.safetensors")
    save_file({renamed(k): v for k, v in state.items()}, folder / "model.safetensors")
    with pytest.raises(InputError, match=says):
        load_encoder_classifier(str(folder), 2)
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="Could not load the teacher"):
        load_encoder_classifier(str(folder), 2)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="has no tokenizer.*|Could not load the tokenizer"):
        load_tokenizer(str(folder))


def test_a_folder_without_a_tokenizer_has_none(tiny_teacher, tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(f"{tiny_teacher}/{name}", tmp_path)
    with pytest.raises(InputError, match="has no tokenizer .*save_pretrained"):
        load_tokenizer(str(tmp_path))


def test_the_longest_row_is_one_that_both_models_take():
    from transformers import BertConfig, MPNetConfig, RobertaConfig

    for config, most in (
        (None, 512),
        (BertConfig(max_position_embeddings=1024), 512),
        (BertConfig(max_position_embeddings=100), 100),
        (RobertaConfig(max_position_embeddings=130, pad_token_id=1), 128),
        (MPNetConfig(max_position_embeddings=514), 512),
        (MPNetConfig(max_position_embeddings=40, pad_token_id=0), 38),
    ):
        assert most_tokens(config) == most


def altered(tiny_teacher, folder, **config):
    """A copy of the tiny teacher with another config."""
    shutil.copytree(tiny_teacher, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return str(folder)


def test_a_teacher_that_is_not_what_its_config_says_or_no_encoder_is_refused(
    tiny_teacher, tmp_path
):
    from transformers import GPT2Config, GPT2Model

    fewer = altered(tiny_teacher, tmp_path / "fewer", num_hidden_layers=2)
    with pytest.raises(InputError, match="weights of 4 layers, its config.json says 2"):
        load_encoder_classifier(fewer, 2)
    small = dict(n_embd=8, n_layer=1, n_head=2, n_positions=9, bos_token_id=1, eos_token_id=1)
    GPT2Model(GPT2Config(vocab_size=9, **small)).save_pretrained(tmp_path / "decoder")
    with pytest.raises(InputError, match="decoder' is a gpt2. A teacher must be an encoder"):
        load_encoder_classifier(str(tmp_path / "decoder"), 2)


def test_a_teacher_kept_in_half_precision_is_trained_in_full(tiny_teacher, tmp_path):
    folder = altered(tiny_teacher, tmp_path / "half", dtype="float16", torch_dtype="float16")
    load_encoder_classifier(tiny_teacher, 2).half().save_pretrained(folder)
    assert {p.dtype for p in load_encoder_classifier(folder, 2).parameters()} == {torch.float32}


def test_devices():
    assert resolve_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="auto, cpu, cuda or mps"):
        resolve_device("gpu")


def test_a_teacher_whose_name_is_longer_than_any_file_s_is_refused():
    with pytest.raises(LrcError):
        load_tokenizer("x" * 300)
