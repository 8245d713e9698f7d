import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.planning.sampling import Estimate, Range, Sample, tokens_of_all
from tasks.core.planning.token_counting import tokenizer_for

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("model", "name", "assumed"),
    [("gpt-4o-mini", "o200k_base", ""), ("gpt-4", "cl100k_base", ""), ("our-own", "o200k_base", "assumed")],
)
def test_a_model_has_its_vocabulary_and_an_unknown_one_the_newest(
    model: str, name: str, assumed: str
) -> None:
    tokenizer = tokenizer_for(model)
    assert (tokenizer.name, tokenizer.is_assumed) == (name, bool(assumed))


def test_tokens_are_counted_by_the_rules_of_openai() -> None:
    # "hello world" is two tokens; four are around each message and three begin the reply.
    assert tokenizer_for("gpt-4o").count([("system", "hello world"), ("user", "hello world")]) == 15
    assert tokenizer_for("gpt-4o").count([("user", "<|endoftext|>")]) > 8


def test_nothing_is_downloaded_and_llamaindex_is_not_loaded(tmp_path: Path) -> None:
    """With a proxy that is not there, any download would fail."""
    env = {name: value for name, value in os.environ.items() if "TIKTOKEN" not in name}
    env |= {"HTTPS_PROXY": "http://127.0.0.1:9", "TMPDIR": str(tmp_path)}
    code = (
        "import os, sys; from tasks.core.planning.token_counting import tokenizer_for\n"
        "for model in ('gpt-4o', 'gpt-4', 'unknown'): tokenizer_for(model).count([('user', 'text')])\n"
        "assert not any(name.startswith(('llama_index.core', 'prefect')) for name in sys.modules)\n"
        "assert 'TIKTOKEN_CACHE_DIR' not in os.environ\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True)
    assert not list(tmp_path.iterdir())


def row(number: int) -> tuple[bytes, str]:
    return random.Random(number).randbytes(16), "x" * (number % 90 + 10)


def test_a_sample_does_not_depend_on_the_order_of_rows_and_is_bounded() -> None:
    rows, samples = [row(n) for n in range(1000)], []
    for seed in (1, 2):
        random.Random(seed).shuffle(rows)
        sample = Sample(50, 2**20)
        for key, text in rows + rows[:100]:
            sample.offer(key, text, len(text))
        samples.append(sample.texts())
    assert samples[0] == samples[1]
    assert sorted(samples[0]) == sorted(key for key, _ in rows)[:50]


def test_large_texts_make_a_small_sample() -> None:
    sample = Sample(1000, 10_000)
    for number in range(500):
        sample.offer(row(number)[0], "x" * 1000, 1000)
    assert len(sample.texts()) == 32


def test_an_estimate_from_all_rows_has_no_error() -> None:
    assert tokens_of_all(3, 60, [(10, 3), (20, 5), (30, 7)]) == Estimate(15.0)
    assert tokens_of_all(0, 0, []).range == Range()


def test_three_standard_errors_hold_the_truth_nearly_always() -> None:
    chance, held = random.Random(11), 0
    population = [
        (size, round(size * chance.choice([0.2, 0.25, 0.3, 0.9])))
        for size in chance.choices(range(50, 5000), k=4000)
    ]
    truth, size_bytes = sum(tokens for _, tokens in population), sum(size for size, _ in population)
    for _ in range(200):
        bounds = tokens_of_all(4000, size_bytes, chance.sample(population, 100)).range
        held += bounds.low <= truth <= bounds.high
    assert held >= 194


def test_estimates_of_separate_samples_add_up_with_their_errors() -> None:
    both = Estimate(100.0, 9.0) + Estimate(50.0, 16.0)
    assert both.range == Range(135.0, 150.0, 165.0)
    assert Estimate(1.0, 100.0).range.low == 0.0
