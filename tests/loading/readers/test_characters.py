# ruff: noqa: RUF001  letters of other alphabets are the point
from __future__ import annotations

import pytest

from howdah.loading.readers.characters import decoded, encoding_of, looks_like_text

RUSSIAN = "имя,возраст,город\nИван,30,Москва\nМария,25,Тула\n"
JAPANESE = "これは日本語のテキストです。漢字とひらがな。"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "name,city\nMüller,Köln\n"),
        ("utf-8", "ascii alone"),
        ("utf-16", "with a mark"),
        ("utf-16-le", "a,b\n1,2 and more\n"),
        ("utf-16-be", "a,b\n1,2 and more\n"),
        ("utf-32", "wide"),
        ("cp1252", "name;straße;größe\nMüller;Königsweg;1,80\n"),
        ("cp1252", "Le café où l'on ne fume pas, déjà vu à l'été"),
        ("cp1250", "Zażółć gęślą jaźń, łódź, książka i pięć róż"),
        ("cp1251", RUSSIAN),
        ("koi8_r", "Привет, как дела? Все хорошо, спасибо большое."),
        ("cp1253", "Καλημέρα κόσμε, τι κάνετε; Είμαι καλά, ευχαριστώ πολύ."),
        ("cp1255", "שלום עולם, מה שלומך היום? אני בסדר"),
        ("cp932", "名前,年齢,住所\r\n佐藤太郎,30,東京\r\n三木英子,25,大阪\r\n"),
        ("euc_jp", JAPANESE),
        ("gb18030", "姓名,年龄,城市\n张伟,30,北京\n王芳,25,上海\n"),
        ("big5", "這是一個用來測試字元編碼的中文文本,謝謝大家的支持"),
        ("euc_kr", "이것은 문자 인코딩을 시험하기 위한 한국어 텍스트입니다. 감사합니다"),
    ],
)
def test_the_encoding_of_real_sentences_is_found(encoding, text):
    data = text.encode(encoding)
    assert encoding_of(data) == encoding
    assert decoded(data)[0] == text


def test_a_character_cut_off_at_the_end_of_the_head_does_not_mislead():
    assert encoding_of("Müller ".encode() * 99 + "ü".encode()[:1]) == "utf-8"


def test_one_stray_byte_does_not_turn_a_utf8_file_into_another_encoding():
    assert encoding_of("größe ".encode() * 100 + b"\xff") == "utf-8"


def test_random_bytes_are_no_text():
    assert not looks_like_text(bytes(range(256)))
    assert looks_like_text("größe".encode("cp1252"))
