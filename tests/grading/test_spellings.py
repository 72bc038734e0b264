"""Answers in the spellings of people and models: found, read, and compared with the reference."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.shared import needs_shared, shared
from tracelab.grading.grader import Grader, GradingConfig
from tracelab.text.answer.choices import find_choice
from tracelab.text.answer.compare import compare


@pytest.fixture(scope="module")
def graders() -> Iterator[dict[str, Grader]]:
    made = {kind: Grader(GradingConfig(kind=kind)) for kind in ("number", "boxed", "choice")}
    yield made
    for grader in made.values():
        grader.close()


def reward(grader: Grader, response: str, reference: str) -> float | None:
    return grader.grade(response, reference=reference, own_answer=None, finish_reason="stop").reward


@needs_shared
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("29_grading_number", "number"),
        ("30_grading_boxed", "boxed"),
        ("31_grading_choice", "choice"),
        ("32_boxed_only_in_think", "boxed"),
    ],
)
def test_answers_that_users_had(graders: dict[str, Grader], name: str, kind: str) -> None:
    lines = shared(f"data/cases/{name}.jsonl").read_text(encoding="utf-8").splitlines()
    for case in map(json.loads, lines):
        wanted = case.get("wanted_reward", 1.0)
        assert reward(graders[kind], case["response"], case["reference"]) == wanted, case


STATED = [
    ("#### 42", "42", 1),
    ("So 6 times 7.\n#### 1,234", "1234", 1),
    ("### 42", "42", 1),
    ("### Step 2\nMore.", "2", 0),
    ("<answer>42</answer>", "42", 1),
    ('{"answer": 42}', "42", 1),
    ('```json\n{"final_answer": "1/2"}\n```', "0.5", 1),
    ("The answer is 42.", "42", 1),
    ("The final answer is $x^2$, because it is.", "x^2", 1),
    ("The answer is not 41 but 42.", "42", 1),
    ("**Final Answer:** 42", "42", 1),
    ("## Answer\n\n42", "42", 1),
    ("答案是４２。", "42", 1),
    ("答えは42です。", "42", 1),
    ("La respuesta es 42.", "42", 1),
    ("Is the answer 42?", "42", 0),
    ("So 42", "42", 0),
    (r"\boxed{1} and \boxed{-2}", "-2, 1", 1),
    (r"\boxed{1} no no, \boxed{2}", "1, 2", 0),
    (r"\boxed{1} no no, \boxed{2}", "2", 1),
    (r"\boxed 42", "42", 1),
    (r"\fbox{42}", "42", 1),
    (r"\boxed{\emptyset}", r"\varnothing", 1),
    (r"\boxed{4\sqrt(2)}", r"4\sqrt{2}", 1),
    (r"\boxed{\sqrt{1/n}}", r"\frac{1}{\sqrt{n}}", 1),
    (r"\boxed{\sqrt{1/n}}", r"\frac{2}{\sqrt{n}}", 0),
    (r"\boxed{|x|}", "x", 0),
    (r"\boxed{2^{100}}", "1267650600228229401496703205376", 1),
    (r"\boxed{2^{100}}", "1267650600228229401496703205377", 0),
    (r"\boxed{90^\circ}", r"\frac{\pi}{2}", 1),
    (r"\boxed{y = 2x + 1}", "2x - y + 1 = 0", 1),
    (r"\boxed{y = 2x + 1}", "2x - y + 2 = 0", 0),
    (r"\boxed{50\%}", "0.5", 1),
    (r"\boxed{50\%}", "50", None),
    (r"\boxed{7}", r"So it is \boxed{7}.", 1),
    (r"\boxed{7}", "3 + 4 = 7\n#### 7", 1),
    ("<think>\n\\boxed{41}? No.\n</think>\n\nThe answer is 42.", "42", 1),
    ("<think>\n\\boxed{41}? No.\n</think>\n\nIt is as said.", "41", 0),
    ("<think>\nSo \\boxed{42}.\n</think>", "42", 1),
    ("<think>\nHm.\n</think>\n\nThere are 42 of them.", "42", 1),
]


@pytest.mark.parametrize(("response", "reference", "wanted"), STATED)
def test_where_an_answer_is_stated(
    graders: dict[str, Grader], response: str, reference: str, wanted: float | None
) -> None:
    assert reward(graders["boxed"], response, reference) == wanted


NUMBERS = [
    ("It costs 1.234,5 Euro", "1234.5"),
    ("It costs 1 234 567,89", "1234567.89"),
    ("The range is 10-20", "20"),
    ("It is 12,5.", "12.5"),
    ("It is 1,234", "1234"),
    ("It is 12,34,567", "1234567"),
    ("It is 3.5 × 10^2", "350"),
    ("It is 3 1/2.", "3.5"),
    ("答案是四十二。", "42"),
    ("答案是12万", "120000"),
    ("الجواب ٤٢", "42"),
    ("उत्तर ४२ है", "42"),
    ("It is −5", "-5"),
    ("It is -5", "\u22125"),
    ("Of 1,2,3", "3"),
    ("<answer>42</answer> in 3 steps", "42"),
]


@pytest.mark.parametrize(("response", "reference"), NUMBERS)
def test_numbers_of_every_spelling(
    graders: dict[str, Grader], response: str, reference: str
) -> None:
    assert reward(graders["number"], response, reference) == 1


SAME_AND_NOT = [
    ("1.234,5", "1234.5", "equal"),
    ("50\\%", "0.5", "equal"),
    ("50\\%", "50", "undecided"),
    ("5 cm", "5 m", "different"),
    ("5 cm", "5", "equal"),
    ("5\\text{ cm}", "5", "equal"),
    ("\\$5", "5", "equal"),
    ("100 cm", "1 m", "equal"),
    ("1011_2", "1011_3", "different"),
    ("1011_2", "1011", "undecided"),
    ("1011_2", "11", "equal"),
    ("C) 12", "C", "equal"),
    ("\\textbf{(C)}\\ 12", "C", "equal"),
    ("D) 12", "C", "different"),
    ("\\text{June 20}", "6/20", "equal"),
    ("1:00", "12:00", "different"),
    ("x \\le 3", "(-\\infty,3]", "equal"),
    ("x < 3", "(-\\infty,3]", "different"),
    ("a) 5, b) 6", "5, 6", "equal"),
    ("a) 6, b) 5", "5, 6", "different"),
    ("\\pm 2021", "2021", "different"),
    ("\\pm 2021", "-2021, 2021", "equal"),
    ("(1,2)", "(2,1)", "different"),
    ("(1,2)", "[1,2]", "different"),
    ("\\{1,2\\}", "\\{2,1\\}", "equal"),
    ("1,2", "2, 1", "equal"),
    ("[1,2)", "(1,2]", "different"),
    ("1<x<2", "(1,2)", "equal"),
    ("x \\in [-2,7]", "-2 \\le x \\le 7", "equal"),
    ("19, 46, and 82", "19, 46, \\text{ and } 82", "equal"),
    ("(p,q,r)=(3,2,7)", "(3,2,7)", "equal"),
    ("x=1, x=2", "1, 2", "equal"),
    ("x=1, y=2", "(1,2)", "equal"),
    ("x=1, y=2", "y=2, x=1", "equal"),
    ("x=5", "5", "equal"),
    ("x=5", "6", "different"),
    ("f(x)=2x", "y=2x", "equal"),
    ("S_{MBCN}:S=7:32", "7:32", "equal"),
    ("AB=4,CD=5", "4, 5", "equal"),
    ("(11,7)or(7,11)", "(7,11),\\ (11,7)", "equal"),
    ("W(n) = 1 \\text{ and } W(n) = -1", "W(x)=1orW(x)=-1", "equal"),
    ("a_3 = 2, a_{37} = 19", "a_{37} = 19, \\quad a_3 = 2", "equal"),
    ("-793 < a < 10", "(-793, 10)", "equal"),
    ("$(0;0;0),(0;-2;0)$", "(0, -2, 0), (0, 0, 0)", "equal"),
    ("-12;-11", "\\{-12, -11\\}", "equal"),
    ("0<f(x)<1", "(0,1)", "equal"),
    ("\\text{odd}", "odd", "equal"),
    ("cat", "act", "different"),
    ("AB", "BA", "undecided"),
    ("3,14", "3.14", "equal"),
    ("1,234", "1.234", "different"),
    ("12,5", "12.5", "equal"),
    ("\\emptyset", "\\varnothing", "equal"),
    ("\\emptyset", "\\text{no solution}", "equal"),
    ("Yes", "True", "equal"),
    ("five", "5", "equal"),
    ("5 apples", "5 oranges", "undecided"),
    ("5 \\text{ miles per hour}", "5 mph", "equal"),
    ("90^\\circ", "90", "equal"),
    ("(-\\infty, 1) \\cup (3, \\infty)", "x < 1 \\text{ or } x > 3", "equal"),
    ("\\mathbb{R}", "(-\\infty,\\infty)", "equal"),
    ("x \\neq 3", "(-\\infty,3)\\cup(3,\\infty)", "equal"),
    ("\\{-1\\} \\cup [0,7)", "\\{-1\\} \\cup [0,7)", "equal"),
    ("1:2", "1/2", "equal"),
    ("2:4", "1:2", "equal"),
    ("1:2", "2:1", "different"),
    ("3:00 PM", "15:00", "equal"),
    ("15\\mbox{ cm}^2", "15", "equal"),
    ("15\\text{ cm}^2", "15\\text{ cm}^3", "different"),
    ("0.06 \\text{ yuan}", "0.06", "equal"),
    ("12\\text{ and }13", "12, 13", "equal"),
    ("\\text{Evelyn}", "Evelyn", "equal"),
    ("Paris", "Paris, France", "undecided"),
    ("unknown", "7", "different"),
    ("3.141592", "3.141593", "different"),
    ("0.333333", "1/3", "equal"),
    ("1 \\pm \\sqrt{19}", "1+\\sqrt{19}, 1-\\sqrt{19}", "equal"),
    ("5 million", "5", "different"),
    ("5 million", "5000000", "equal"),
    ("2/3", "3/2", "different"),
    ("-5", "5", "different"),
    ("n=1, 2, 3", "n=1, 2, 3", "equal"),
    ("n=2, 3, 4", "n=1, 2, 3", "different"),
    ("D = (0, 1)", "D = (0, 1.5)", "different"),
    ("3 \\text{ or } 4", "3", "different"),
    ("at least 5", "5", "undecided"),
    ("not 5", "5", "undecided"),
    ("\\$18.90", "18.9", "equal"),
    ("\\$0.50", "50 cents", "equal"),
    ("10\\text{ hours}", "10 minutes", "different"),
    ("2 hours", "120 minutes", "equal"),
    ("x>1 and x<3", "(1,3)", "equal"),
    ("\\left\\{ x \\mid x > 2 \\right\\}", "(2, \\infty)", "equal"),
    ("]1,2[", "(1,2)", "equal"),
    ("3\\frac{1}{2}", "7/2", "equal"),
    ("(B)", "B", "equal"),
    ("The answer is 5", "5", "equal"),
    ("k = 45 and n = 2", "k=45, n=2", "equal"),
    ("\\boxed{7}", "7", "equal"),
    ("[1,2,3]", "1,2,3", "equal"),
    ("\\{1,2\\}", "1,2", "equal"),
    ("(1,2)", "1, 2", "equal"),
    ("(2,1)", "1, 2", "different"),
]


@pytest.mark.parametrize(("answer", "target", "verdict"), SAME_AND_NOT)
def test_reading_alone_decides(answer: str, target: str, verdict: str) -> None:
    assert compare(answer, target) == compare(target, answer) == verdict


@pytest.mark.parametrize(
    "text", ["x+1", "(", "{" * 200, "[" * 400 + "]" * 400, "1," * 900, "a=" * 900]
)
def test_hostile_answers_equal_themselves(text: str) -> None:
    assert compare(text, text) == "equal"
    assert compare(text, text + "2") in ("different", "undecided", "algebra")


CHOSE_B = [
    "The answer is B.",
    "The correct answer is (B).",
    "Answer: B",
    "answer: b",
    "**Answer:** B",
    "**Answer: B**",
    "Answer: (B)",
    "Answer: **B**",
    "ANSWER: B",
    "Final answer: B",
    "The final answer is **B**",
    "The correct option is B",
    "The best answer is B.",
    "B",
    "(B)",
    "B.",
    "B)",
    "**B**",
    "[B]",
    "$B$",
    "\\boxed{B}",
    "\\boxed{\\text{B}}",
    "\\boxed{(B)}",
    "\\boxed{B. Paris}",
    "$\\boxed{\\textbf{(B)}\\ 12}$",
    "B) Paris",
    "B. Paris",
    "(B) Paris",
    "B: Paris",
    "B - Paris",
    "Option B",
    "Option B is correct.",
    "The answer is option B.",
    "I choose B.",
    "I would go with B",
    "My choice is B.",
    "So the answer should be B, because A is wrong.",
    "It must be B.",
    "<answer>B</answer>",
    "<answer>(B) Paris</answer>",
    '{"answer": "B"}',
    '```json\n{"answer": "B", "reason": "A is wrong"}\n```',
    '{"final_answer": "B"}',
    "### Answer\nB. Paris",
    "## Answer: B",
    "The answer is not A but B.",
    "Option A is wrong. Option B is correct.",
    "A is incorrect. B is correct.",
    "Therefore, B is correct.",
    "Hence B.",
    "Answer is B",
    "Answer - B",
    "The answer is: B",
    "The answer is:\n\nB",
    "Answer:\nB",
    "Conclusion: (B). Eliminated: (A), (C), (D).",
    'The answer is "B".',
    "The answer is ‘B’",
    "Answer=B",
    "正确答案是（B）",
    "正确选项为B",
    "答案：B",
    "答案是B。",
    "答案为 B",
    "故选B",
    "故选：B。",
    "因此选择B。",
    "选B",
    "B是正确的",
    "答えは B です",
    "答え：B",
    "答えはBです。",
    "正解はBです。",
    "正解: B",
    "Bが正解です。",
    "正解は（B）である。",
    "정답은 B입니다.",
    "정답: B",
    "답: B",
    "답은 (B)입니다.",
    "Die Antwort ist B.",
    "Antwort: B",
    "Die richtige Antwort ist B.",
    "Die richtige Antwort lautet (B).",
    "La réponse est B.",
    "Réponse : B",
    "La bonne réponse est la B.",
    "La respuesta es B.",
    "Respuesta: B",
    "La respuesta correcta es la B.",
    "La opción correcta es B",
    "A resposta é B.",
    "Resposta: B",
    "A alternativa correta é a B.",
    "La risposta è B.",
    "Risposta: B",
    "La risposta corretta è la B",
    "Ответ: B",
    "Правильный ответ: B.",
    "Правильный ответ — B",
    "الإجابة: B",
    "الإجابة الصحيحة هي B",
    "الإجابة: ب",
    "الجواب: (B)",
    "उत्तर: B",
    "सही उत्तर B है",
    "उत्तर B है।",
    "উত্তর: B",
    "উত্তর: খ",
    "Jawaban: B",
    "Jibu: B",
    "Ìdáhùn: B",
    "Ｂ",
    "答案：Ｂ",
    "The answer is Ｂ.",
    "답변: B",
    "Đáp án: B",
    "Cevap: B",
    "The letter is B.",
    "I think it's B",
    "Correct choice: B",
    "So, option (B) it is.",
    "Of these, only B holds. Answer B.",
    "The answer is $\\boxed{B}$.",
    "The answer is \\(\\text{B}\\).",
    "Among the options, (B) is the best answer.",
    "C is tempting, but the answer is B.",
    "Not A, not C; the answer is B.",
    "If the answer were A, x would be 2. So the answer is B.",
    "the answer is b.",
    "(b)",
    "b",
    "b)",
    "The correct answer is B: Paris",
    "The answer is B) Paris",
    "Thus, the correct choice is **(B) Paris**.",
    "Answer: B) 12",
    "The answer is A? No, it is B.",
    "**B) Paris**",
    "> B",
    "Ⓑ",
    "Option (B) is the correct answer.",
    "So B is the answer.",
    "The right answer would be B, not A.",
    "So the answer is: **B**",
    "Final Answer: \\(B\\)",
    "La réponse correcte est (B)",
    "回答：B",
    "選択肢Bが正しい",
    "本题选B",
    "A 错误，B 正确",
]


@pytest.mark.parametrize("text", CHOSE_B)
def test_choices_of_every_spelling(text: str) -> None:
    assert find_choice(text, "ABCDE") == "B"


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is a mystery. A man.", None),
        ("Is the answer B?", None),
        ("The answer is A or B.", None),
        ("A. Paris\nB. Rome\nC. Oslo", None),
        ("Neither A nor B.", None),
        ("The answer is not B.", None),
        ("A good answer needs facts.", None),
        (r"\boxed{A, B}", None),
        ("A and B are both correct", None),
        ("The answer is A.", "A"),
        ("The answer is A because of it", "A"),
        ("B is wrong. C is right.", "C"),
        ("Answer: C\n\nExplanation: A is false, B is false.", "C"),
        ("Answer: B\nWait, that is wrong. Answer: C", "C"),
        ("The answer is C, not B.", "C"),
    ],
)
def test_what_is_denied_or_open_is_no_choice(text: str, letter: str | None) -> None:
    assert find_choice(text, "ABCDE") == letter


def test_a_reference_may_name_its_option_in_full(graders: dict[str, Grader]) -> None:
    for reference in ("B", "(B)", "b", "B) Paris", r"\boxed{\text{B}}"):
        assert reward(graders["choice"], "The answer is B.", reference) == 1
        assert reward(graders["choice"], "The answer is C.", reference) == 0
