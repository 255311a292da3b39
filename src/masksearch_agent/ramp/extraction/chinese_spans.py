"""Facts in Chinese text that patterns find: dates, quantities, titles of works, and names beside telling verbs.

Chinese writes no spaces, so where a name begins can only be told from what stands before it; the patterns take
a name only there. They miss many, and what they find can be looked up. A language model finds more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from masksearch_agent.text.words import HAN

__all__ = ("find_chinese_facts",)

_UNITS = (
    "平方公里|平方米|公里|千米|海里|厘米|毫米|米|公顷|公斤|千克|吨|美元|欧元|日元|元|人|名|位|座|部|首|本|卷|集|章|篇"
    "|个月|个小时|个星期|个|岁|种|次|年级|年|天|小时|分钟|届|所|家|层|级|度"
)
_DIGITS = "〇零一二三四五六七八九十"
_NO_ONE = (
    "于|此|他|她|它|其|我|你|您|该|这|那|某|谁|自己|公司|政府|国家|官方|本[公校院]"
    f"|[{_DIGITS}两几数多][个名位家人支群]"
)
"""What follows `由` and is no name: `由于` and `由此` are words of their own, the rest are pronouns and the like."""
_LATIN = "A-Za-zÀ-ɏ"
# A fact is not cut out of a longer word or number, so each pattern says what must not stand before and after it.
_FACTS = {
    "DATE": r"(?<![\d.,])(?P<DATE>(?:\d{1,2}世纪)?\d{1,4}年代"
    r"|(?:公元前)?\d{1,4}年(?![代级])(?:\d{1,2}月(?:\d{1,2}[日号])?)?|\d{1,2}月\d{1,2}[日号]"
    rf"|(?<![{_DIGITS}])[{_DIGITS}]{{4}}年(?!代))",
    "QUANTITY": rf"(?<![\d.,{_LATIN}])"
    rf"(?P<QUANTITY>\d[\d,.]*(?:[％%]|[十百千万亿]*(?:{_UNITS})|[十百千万亿]+))",
    "WORK": r"《(?P<WORK>[^《》\n]{1,30})》",
    "PLACE": rf"(?:位于|坐落于|出生于|生于|来自|迁往|迁至|首都是|首府是)(?P<PLACE>(?:(?!的)[{HAN}]){{1,9}}?"
    r"(?:[省市县区]|国(?![家际内外])|[州镇岛河湖山](?![屿流泊脉谷])(?:[省县区]|市(?!场))?))",
    "ORGANISATION": rf"(?:毕业于|就读于|任教于|任职于|供职于|隶属于|加入)(?P<ORGANISATION>(?:(?!的)[{HAN}]){{2,14}}?"
    r"(?:[大中]学(?!生(?![物命态理]))|学院|公司|研究所|研究院|集团|银行|医院|协会|乐团))",
    "PERSON": rf"(?<![自理缘])由(?!{_NO_ONE})(?P<PERSON>[{HAN}]{{2,4}}?)"
    r"(?:创立|创建|创办|设计|执导|撰写|编剧|主演|建造|发明|发现|翻译|担任)",
    "NAME": rf"(?<![{_LATIN}\d-])(?P<NAME>[A-Z][{_LATIN}]+(?:[ ·-][A-Z][{_LATIN}]+)*)(?![{_LATIN}\d]|[.-]\d)",
}
_FACT = re.compile("|".join(_FACTS.values()))


def find_chinese_facts(text: str) -> Iterator[tuple[int, int, str, str]]:
    """Yield where a fact starts and ends, its text and what it is, in the order of the text."""
    for found in _FACT.finditer(text):
        label = found.lastgroup or ""
        start, end = found.span(label)
        yield start, end, text[start:end], label
