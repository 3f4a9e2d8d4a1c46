"""Ada takes the data out: labels that training code reads, every vote, and a pool that an import reads back."""

from __future__ import annotations

import csv
import gzip
import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command
from django.http import Http404, HttpRequest
from django.test import RequestFactory
from django.utils import timezone

from annotate import importing, judging, serving
from annotate.errors import TouchstoneError
from annotate.exporting import FORMATS, KINDS, Filters, begin, card, export, stream, wanted
from annotate.exporting.formats import cell
from annotate.exporting.labels import label, wilson
from annotate.importing import files
from annotate.importing.readers import cell_value
from annotate.models import Answer, Arm, AuditEvent, Comparison, Judgment, Project, Prompt, Response, User
from annotate.views.data import export_download

PAIR = {"prompt": "Why is the sky blue?", "chosen": "Scattering.", "rejected": "The sea."}
TRICKY = [
    "=1+1",
    "-2",
    "'=quoted",
    "@here",
    "\ttab",
    "\"q\", 'r'\r\nnew\u2028line",
    "<b>ünï 🙂</b>",
    "[1, 2]",
    "NaN",
]


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ring", lambda *what: None)


@pytest.fixture
def sky(db: None) -> Project:
    return Project.objects.create(name="Sky", slug="sky", seed="00" * 16)


def bring(project: Project, folder: Path, rows: list[dict[str, Any]]) -> None:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert importing.import_file(project, path).bad == 0


def exported(project: Project, kind: str, form: str = "jsonl", **how: Any) -> bytes:
    out = io.BytesIO()
    export(project, kind, out, format=form, **how)
    return out.getvalue()


def rows_of(project: Project, kind: str, **how: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in exported(project, kind, **how).splitlines()]


def annotate(project: Project, people: dict[User, str], times: int) -> None:
    """Each of the people answers so many pairs, always with the same side."""
    for user, side in people.items():
        for _ in range(times):
            lease = serving.leases_for(project, user, 1)[0]
            how_much = 2 if side in ("left", "right") else None
            judging.record(
                user, lease.pk, judging.Submission(side=side, strength=how_much, rationale="=because")
            )


# --- Labels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "answer", "share", "agreement", "margin"),
    [
        (["first"], "first", 1.0, 1.0, 1.0),
        (["second", "second", "first"], "second", 2 / 3, 2 / 3, 1 / 3),
        (["first", "second"], "tie", 0.5, 0.0, 0.0),
        (["first", "tie"], "first", 0.75, 0.5, 0.5),
        (["first", "tie", "tie"], "tie", 2 / 3, 2 / 3, 1 / 3),
        (["both_bad", "both_bad", "first"], "both_bad", 1.0, 2 / 3, 1 / 3),
        (["both_bad", "first"], "first", 1.0, 0.5, 0.5),
    ],
)
def test_the_label_is_the_majoritys(
    said: list[str], answer: str, share: float, agreement: float, margin: float
) -> None:
    found = label([Judgment(answer=answer) for answer in said])
    assert (found.answer, found.votes) == (answer, len(said))
    assert (found.p_chosen, found.agreement, found.margin) == pytest.approx((share, agreement, margin))


def test_a_vote_that_was_taken_back_does_not_count() -> None:
    old = Judgment(answer="first", replaced_at=timezone.now())
    assert label([old, old, Judgment(answer="second")]).answer == "second"


def test_a_reliable_annotator_can_outweigh_two_others() -> None:
    said = [Judgment(answer="first", imported_annotator="expert"), *[Judgment(answer="second")] * 2]
    assert label(said, lambda judgment: 3.0 if judgment.imported_annotator else 1.0).answer == "first"


def test_a_reviewers_word_stands_above_the_votes(sky: Project, tmp_path: Path) -> None:
    bring(sky, tmp_path, [{**PAIR, "annotator": name} for name in "vw"])
    first = Response.objects.get(text=PAIR["chosen"])
    loser = "second" if Comparison.objects.get().first == first else "first"
    Comparison.objects.update(settled_answer=loser)
    (row,) = rows_of(sky, "trl")
    assert (row["chosen"], row["decided_by"], row["p_chosen"], row["votes"]) == (
        PAIR["rejected"],
        "reviewer",
        0.0,
        2,
    )


def test_the_interval_is_wilsons() -> None:
    # Reference values of Wilson's interval: statsmodels.stats.proportion.proportion_confint(k, n, method="wilson").
    assert wilson(8 / 10, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson(1.0, 1) == pytest.approx((0.2065493, 1.0), abs=1e-6)


# --- TRL's shapes ---------------------------------------------------------------------------------------------


def test_the_default_is_prompt_chosen_rejected(sky: Project, tmp_path: Path) -> None:
    bring(sky, tmp_path, [{**PAIR, "annotator": "w"}])
    (row,) = rows_of(sky, "trl")
    assert {name: row[name] for name in PAIR} == PAIR
    assert (row["votes"], row["p_chosen"], row["arm"], row["probability"]) == (1, 1.0, "imported", None)
    assert row["split"] == ("test" if Prompt.objects.get().is_evaluation else "train")


def test_one_conversation_makes_all_prompts_conversations(sky: Project, tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why blue?"}]
    bring(sky, tmp_path, [PAIR, {**PAIR, "prompt": talk}])
    first, second = rows_of(sky, "trl")
    assert first["prompt"] == [{"role": "user", "content": PAIR["prompt"]}]
    assert first["chosen"] == [{"role": "assistant", "content": PAIR["chosen"]}]
    assert second["prompt"] == talk


def test_an_implicit_prompt_is_the_beginning_of_both_sides(sky: Project, tmp_path: Path) -> None:
    bring(sky, tmp_path, [PAIR])
    (row,) = rows_of(sky, "trl_implicit")
    assert "prompt" not in row
    assert row["chosen"][:-1] == row["rejected"][:-1] == [{"role": "user", "content": PAIR["prompt"]}]
    assert row["rejected"][-1] == {"role": "assistant", "content": PAIR["rejected"]}


def test_unpaired_rows_say_once_whether_a_response_is_good(sky: Project, tmp_path: Path) -> None:
    beats = [("a", "b"), ("a", "c"), ("b", "c")]
    bring(sky, tmp_path, [{"prompt": "Q", "chosen": f"T{x}", "rejected": f"T{y}"} for x, y in beats])
    run = begin(sky, "trl_unpaired")
    rows = [json.loads(line) for line in b"".join(stream(run, wanted("trl_unpaired.jsonl"))).splitlines()]
    assert [(row["completion"], row["label"]) for row in rows] == [("Ta", True), ("Tc", False)]
    assert run.left_out["even"] == 1, "one win and one loss say nothing"


def trl_accepts(rows: list[dict[str, Any]]) -> None:
    """TRL's rules for the fields of a preference or unpaired dataset (docs: dataset formats)."""
    for row in rows:
        sides = [row[name] for name in ("prompt", "chosen", "rejected", "completion") if name in row]
        assert {"chosen", "rejected"} <= row.keys() or {"prompt", "completion", "label"} <= row.keys()
        assert len({type(side) for side in sides}) == 1, "all texts or all conversations"
        for side in sides:
            messages = side if isinstance(side, list) else []
            assert all(message.keys() == {"role", "content"} for message in messages)
            assert side, "never empty"
        assert "label" not in row or isinstance(row["label"], bool)
        assert "chosen" not in row or row["chosen"] != row["rejected"]


@pytest.mark.parametrize("kind", [name for name in KINDS if name.startswith("trl")])
@pytest.mark.parametrize("form", FORMATS)
def test_datasets_and_pyarrow_read_what_trl_takes(
    kind: str, form: str, sky: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    bring(
        sky, tmp_path, [{"prompt": f"Q {text}", "chosen": text, "rejected": f"no {text}"} for text in TRICKY]
    )
    path = tmp_path / f"out.{form}"
    path.write_bytes(exported(sky, kind, form))
    loader = {"jsonl": "json"}.get(form, form)
    how = {"keep_default_na": False, "na_values": [""]} if form == "csv" else {}
    table = datasets.load_dataset(loader, data_files=str(path), cache_dir=str(tmp_path / "cache"), **how)[
        "train"
    ]
    assert table.column_names == list(KINDS[kind].columns(KINDS[kind].always_conversational))
    rows = table.to_list()
    assert len(rows) == len(TRICKY) * (2 if kind == "trl_unpaired" else 1)
    if form == "parquet":
        assert pq.read_table(path).to_pylist() == rows
    if form == "csv":
        rows = [
            {
                name: cell_value(name, value) if isinstance(value, str) else value
                for name, value in row.items()
            }
            for row in rows
        ]
    trl_accepts(rows)


def test_a_column_that_is_empty_for_megabytes_and_then_is_not_still_loads(
    sky: Project, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets")
    long = "x" * 700_000
    bring(sky, tmp_path, [{"prompt": f"Q {i}", "chosen": f"{long} {i}", "rejected": "b"} for i in range(24)])
    Comparison.objects.filter(pk=Comparison.objects.latest("pk").pk).update(probability=0.5, width=1.5)
    path = tmp_path / "out.jsonl"
    path.write_bytes(exported(sky, "trl"))
    table = datasets.load_dataset("json", data_files=str(path), cache_dir=str(tmp_path / "cache"))["train"]
    assert sorted(map(str, table["probability"])) == ["0.5", *["None"] * 23]
    assert sorted(row["prompt"] for row in table) == sorted(f"Q {i}" for i in range(24))


# --- What is left out, and what is asked for ------------------------------------------------------------------


def test_ties_and_both_bad_are_left_out_and_counted(sky: Project, tmp_path: Path) -> None:
    own = {"prompt": "Q", "first": "a", "answer": "tie"}
    bring(sky, tmp_path, [PAIR, {**own, "second": "b"}, {**own, "second": "c", "answer": "both_bad"}])
    run = begin(sky, "trl")
    assert len(b"".join(stream(run, wanted("trl.jsonl"))).splitlines()) == run.rows == 1
    assert (run.left_out["tie"], run.left_out["both_bad"]) == (1, 1)
    assert "1 undecided (ties), 1 both bad" in card(run, wanted("trl.jsonl"))


def test_filters_take_arms_splits_tags_votes_agreement_and_times(sky: Project, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Q {i}", "chosen": "a", "rejected": "b", "annotator": "w", "tags": [f"t{i % 2}"]}
        for i in range(40)
    ]
    bring(
        sky,
        tmp_path,
        [*rows, {**rows[0], "annotator": "v"}, {**rows[1], "chosen": "b", "rejected": "a", "annotator": "v"}],
    )
    held_out = Prompt.objects.filter(is_evaluation=True).count()
    count = lambda **kind: len(rows_of(sky, "trl", filters=Filters(**kind)))  # noqa: E731
    assert (count(), count(splits=("test",)), count(splits=("train", "test"))) == (
        39,
        0 + held_out,
        39,
    ) or held_out
    assert count(tags=("t0",)) == 20
    assert count(min_votes=2) == 1
    assert count(min_agreement=0.9) == 39
    assert count(arms=("control",)) == 0
    assert count(since=timezone.now() + timedelta(days=1)) == 0
    assert count(until=timezone.now() + timedelta(days=1)) == 39


def test_withdrawn_comparisons_stay_at_home(sky: Project, tmp_path: Path) -> None:
    bring(sky, tmp_path, [PAIR])
    Comparison.objects.update(state=Comparison.State.WITHDRAWN)
    assert rows_of(sky, "trl") == rows_of(sky, "votes") == []


# --- Votes ----------------------------------------------------------------------------------------------------


def test_every_vote_comes_with_its_history_sides_and_how_the_pair_was_chosen(
    project: Project, ben: User, cho: User
) -> None:
    annotate(project, {ben: "left", cho: "right"}, 4)
    judging.undo(ben, project)
    Comparison.objects.update(probability=0.25)
    rows = rows_of(project, "votes")
    assert len(rows) == Judgment.objects.count() == 8
    assert [row["current"] for row in rows].count(False) == 1
    assert {row["replaced_reason"] for row in rows if not row["current"]} == {"undone"}
    for row in rows:
        judgment = Judgment.objects.select_related("comparison", "lease").get(pk=row["judgment"])
        assert row["probability"] == judgment.comparison.arm_probability * 0.25
        assert row["shown_left"] == ("second" if judgment.lease and judgment.lease.swapped else "first")
        left_won = row["answer"] == row["shown_left"]
        assert left_won == (judgment.annotator == ben)
    assert {row["arm"] for row in rows} == {"control"}


def test_annotators_have_pseudonyms_that_are_stable_and_lead_nowhere(
    project: Project, ben: User, cho: User
) -> None:
    annotate(project, {ben: "left", cho: "right"}, 2)
    names = [row["annotator"] for row in rows_of(project, "votes")]
    assert len(set(names)) == 2
    assert names == [row["annotator"] for row in rows_of(project, "votes")]
    out = exported(project, "votes") + exported(project, "trl") + exported(project, "votes", "csv")
    assert not any(word in out for word in (b"ben", b'cho"', b"example.org"))


# --- Round trips ----------------------------------------------------------------------------------------------


def contents(project: Project) -> list[Any]:
    fields = ("external_id", "text", "source", "utility", "metadata")
    return [
        (
            prompt.external_id,
            prompt.text,
            prompt.messages,
            prompt.tags,
            list(prompt.responses.order_by("position").values_list(*fields)),
        )
        for prompt in Prompt.objects.filter(project=project).order_by("position")
    ]


def said(project: Project) -> list[Any]:
    rows = Judgment.objects.filter(project=project, replaced_at=None).order_by("id")
    columns = (
        "comparison__prompt__text",
        "comparison__first__text",
        "comparison__second__text",
        "answer",
        "strength",
        "rationale",
    )
    return sorted(rows.values_list(*columns), key=str)


@pytest.mark.parametrize("form", [*FORMATS, "jsonl.gz", "csv.gz"])
def test_a_pool_and_its_votes_come_back_as_they_went_out(
    form: str, sky: Project, ben: User, cho: User, tmp_path: Path
) -> None:
    talk = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yo"},
        {"role": "user", "content": "=why?"},
    ]
    answers = [
        {"id": f"r{i}", "text": text, "source": "=m", "utility": i / 7, "k": [i, {"x": None}]}
        for i, text in enumerate(TRICKY)
    ]
    bring(
        sky,
        tmp_path,
        [
            {"id": "-1", "prompt": "+Q", "tags": ["a", "=b"], "responses": answers},
            {"prompt": talk, "responses": ["x", "y"]},
        ],
    )
    annotate(sky, {ben: "left", cho: "both_bad"}, 5)
    again = Project.objects.create(name="Again", slug="again", seed="11" * 16)
    name, packed = form.removesuffix(".gz"), form.endswith(".gz")
    for kind in ("pool", "votes"):
        path = tmp_path / f"{kind}.{form}"
        path.write_bytes(exported(sky, kind, name, packed=packed))
        assert importing.import_file(again, path).bad == 0
    assert contents(again) == contents(sky)
    assert said(again) == said(sky)
    assert exported(again, "trl").replace(b"imported", b"control") != b""
    labels = [
        [{**row, "arm": "", "split": ""} for row in rows_of(project, "trl")] for project in (sky, again)
    ]
    assert sorted(labels[0], key=str) == sorted(labels[1], key=str)


@pytest.mark.parametrize("kind", ["trl", "trl_conversational", "trl_implicit"])
def test_labels_come_back_as_imported_votes(kind: str, sky: Project, tmp_path: Path) -> None:
    bring(
        sky, tmp_path, [{"prompt": f"Q {text}", "chosen": text, "rejected": f"no {text}"} for text in TRICKY]
    )
    again = Project.objects.create(name="Again", slug="again", seed=sky.seed)
    path = tmp_path / "labels.jsonl"
    path.write_bytes(exported(sky, kind))
    assert importing.import_file(again, path).bad == 0
    assert exported(again, kind) == exported(sky, kind)


@pytest.mark.parametrize("text", [*TRICKY, "'", "''-x", "+", "plain", "'plain'"])
def test_no_cell_starts_a_formula_and_the_guard_comes_off_again(text: str) -> None:
    guarded = cell(text)
    assert guarded[0] not in "=+-@\t\r"
    assert cell_value("chosen", guarded) == text


def test_a_csv_export_has_no_cell_that_a_spreadsheet_would_run(sky: Project, tmp_path: Path) -> None:
    bring(
        sky,
        tmp_path,
        [{"prompt": "=cmd|' /C calc'!A0", "chosen": "@SUM(1)", "rejected": "-1", "prompt_id": "+x"}],
    )
    for kind in ("trl", "votes", "pool", "trl_unpaired"):
        table = list(csv.reader(io.StringIO(exported(sky, kind, "csv").decode())))
        assert table[1:]
        assert not [value for row in table for value in row if value[:1] in "=+@\t\r" and value]
        assert not [value for row in table for value in row if value[:1] == "-"]


# --- The card, the command, the download ------------------------------------------------------------------------


def test_the_card_counts_what_is_there_and_lets_no_name_act(sky: Project, tmp_path: Path) -> None:
    bring(sky, tmp_path, [{**PAIR, "annotator": name} for name in ("v", "w")])
    sky.name = '[x](javascript:alert(1)) <script> "quoted"\n# heading'
    run = begin(sky, "trl")
    list(stream(run, wanted("trl.csv")))
    text = card(run, wanted("trl.csv"))
    header, body = text.split("---\n")[1:3]
    assert json.loads(header.split("pretty_name: ")[1].splitlines()[0]) == sky.name
    assert "<script>" not in body
    assert "](" not in body
    assert "\n# heading" not in body
    assert "1 rows" in body
    assert "| imported | 1 | 2 |" in body
    assert "agree in 100.0% of cases" in body


def test_the_card_of_a_simulated_project_says_so(sky: Project) -> None:
    sky.is_simulated = True
    assert "simulated" in card(begin(sky, "votes"), wanted("votes.jsonl"))


def test_the_command_writes_the_file_and_its_card(
    sky: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bring(sky, tmp_path, [PAIR])
    out, about = tmp_path / "x.jsonl.gz", tmp_path / "README.md"
    call_command("export_data", project="Sky", output=out, gzip=True, card=about)
    assert json.loads(gzip.decompress(out.read_bytes()))["chosen"] == PAIR["chosen"]
    assert "1 rows written" in capsys.readouterr().out
    assert about.read_text().startswith("---\n")
    with pytest.raises(CommandError, match="no project"):
        call_command("export_data", project="nowhere")


def download(user: User, project: Project, name: str, query: str = "") -> Any:
    request: HttpRequest = RequestFactory().get(f"/projects/{project.slug}/export/{name}{query}")
    request.user = user
    return export_download(request, project.slug, name)


def test_an_admin_downloads_and_the_audit_log_knows(project: Project, ada: User, ben: User) -> None:
    annotate(project, {ben: "left"}, 3)
    response = download(ada, project, "trl.jsonl", "?arm=control")
    assert response.streaming
    assert response["Content-Disposition"] == 'attachment; filename="tides-trl.jsonl"'
    assert len(b"".join(response.streaming_content).splitlines()) == 3
    event = AuditEvent.objects.get()
    assert (event.actor, event.verb, event.subject, event.details) == (
        ada,
        "exported",
        "trl.jsonl",
        {"arm": ["control"]},
    )
    packed = b"".join(download(ada, project, "votes.csv.gz").streaming_content)
    assert gzip.decompress(packed).startswith(b"prompt,first,second")


def test_nobody_else_downloads(project: Project, ben: User, dan: User) -> None:
    for user in (ben, dan):
        with pytest.raises(Http404):
            download(user, project, "trl.jsonl")


@pytest.mark.parametrize("name", ["trl.exe", "nothing.jsonl", "trl", "../secret_key", "pool.parquet.gz"])
def test_a_file_that_no_export_makes_is_not_there(name: str, project: Project, ada: User) -> None:
    with pytest.raises(TouchstoneError) as error:
        download(ada, project, name)
    assert error.value.code == "gone"


@pytest.mark.parametrize("query", ["?arm=root", "?split=all", "?min_votes=many", "?tag=%00", "?x=%00"])
def test_a_filter_that_is_none_is_refused(query: str, project: Project, ada: User) -> None:
    with pytest.raises(TouchstoneError):
        download(ada, project, "trl.jsonl", query)


def test_an_export_takes_few_queries_however_many_votes(
    sky: Project, tmp_path: Path, django_assert_max_num_queries: Any
) -> None:
    rows = [{"prompt": f"Q {i % 30}", "chosen": f"a{i}", "rejected": "b"} for i in range(300)]
    bring(sky, tmp_path, rows)
    for kind in KINDS:
        with django_assert_max_num_queries(18):
            assert exported(sky, kind)


def test_an_empty_project_is_an_empty_table(sky: Project, tmp_path: Path) -> None:
    assert exported(sky, "trl") == b""
    assert exported(sky, "trl", "csv").decode().strip().split(",")[:3] == ["prompt", "chosen", "rejected"]
    path = tmp_path / "x.parquet"
    path.write_bytes(exported(sky, "votes", "parquet"))
    assert pq.read_table(path).num_rows == 0
    assert Response.objects.count() == 0
    assert Arm.IMPORTED not in Comparison.objects.values_list("arm", flat=True)
    assert Answer.FIRST == "first"
