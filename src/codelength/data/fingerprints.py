"""Fingerprints of the data sets at their default options: SHA-256 of the exact integers scored, split by split.

A test compares them with what is loaded. A difference says that a package now holds or decodes the data otherwise; then
numbers measured before are not comparable with new ones. The photographs flower, china and rocket are JPEGs, so
photos32's training and validation data depend on the decoder.
"""

from __future__ import annotations

FINGERPRINTS: dict[str, dict[str, str]] = {
    "cifar10": {
        "train": "01cda708c0b31df50b56e49f8ecf47741a8583e5777cf73c888719b4e43c2439",
        "validation": "1b8c1ccf212d48e5641edbe9d407b085c4352fab6f82d8c92cd1de86290d2f5c",
        "test": "ff4ac38b9f458ca41903b8024c995c83d5c2fdd90112b4de69afd03a45f9039a",
    },
    "digits": {
        "train": "0f939080179913f3c74ca1728bfb34c6fc9ab229d864a795c08cb859a262882f",
        "validation": "d577b1ac57934d51cd136050d2bba84e69b14990a7179adaac0001884cd4a57a",
        "test": "4ca08f75307c99878d4a3f56918fab9cab63a0d53044af086153e9286d4e82a4",
    },
    "digits-dynamic": {
        "train": "8254eb779ced964b93f60225814e6f07038c24b6e92e1ea1c3a84407db99a59c",
        "validation": "97fde46aa7c52c589bf2eed8dedd502395913b94b8ca462d583b02cd2f19aea6",
        "test": "c06d83694a78e7978d7c4c679e342a790e26756f01e393193a2c22f5cf5eafa6",
    },
    "digits-static": {
        "train": "28d86a0204df9110dff3c6e10d7c2dd4c7005d3738f91fe2c7fb34ad549d3b5f",
        "validation": "5e412bf91e951e4991ccb163e7f8a43e8d2d64978d1726bab3e708fa54d07de5",
        "test": "6eaebaca8e3a278bc4439d34ac45e1146b5c78735a122e6d6c8dfd63f6d52309",
    },
    "digits-threshold": {
        "train": "99afcf0e1adbe8d82823202e7d0a6318503d4b33117fd7e2d8705794b8164d92",
        "validation": "3b675cb87ba52f9bddd40f95af71c0ee9da429fba65c178ea740981f16494025",
        "test": "bbad6231d2263734d0203550f0e74489482bd4ad2d8bcc37545d120319a410b4",
    },
    "mnist": {
        "train": "27d760eecb9f93b87f15a4803d77bb6e4a0fc77b807828f6ea89f7890c227f2e",
        "validation": "c985bdb3cefaa82ea9c67c18c3b5e27874db8662870b4f74162203cca95d64e8",
        "test": "83e24b7427010e5f4316a218cbb9b2c18e3f53344af9ac0deaf61a4f2c0c77a8",
    },
    "mnist-dynamic": {
        "train": "a7c0f9e058a8f4e788b8d6cadfc465cf46d4035eaeca61b38ce1c65b08c51484",
        "validation": "0aa301b8a28adf368ad9b7b3cc8f99ae2214ccd747faa68a1d940eaa40557542",
        "test": "e1ce461dffc5c45bf20d039449d9fa01b115428e3165b55c1ff183f615c8a2a3",
    },
    "mnist-static": {
        "train": "c07945c17eb60d097455d77de8d275cf6ff36669c3a494a3ae61c4ee224c267a",
        "validation": "a7807ed8d925326d28e154e1c4a5737ec4a651d1e36d38084458d8a59549b075",
        "test": "61ac7ecd441f2f4d035d65b7cef5702d7906ceafcceaf426b289ad7ff3a1c52f",
    },
    "mnist-threshold": {
        "train": "a928af04595ebb02a89a88f0e6034c23ecf3008f691bf19272d62b1e40081ea5",
        "validation": "83db39d3812e384bb7417ca3cee72709535c34a8155def75f2b51742ddbd9faf",
        "test": "8f829dcc29cbf0be4371238f24f36629e574d7a635765461fc7c532d5a5393db",
    },
    "mnist5k": {
        "train": "ee7d9015342d6db64b0098c6505a9007c42a7307302767cc24b3dabbe165ad52",
        "validation": "179b96517a0bcfd0856b8b3bdd12a7308c316acc8f4e37c9c78cf7cbe01e6963",
        "test": "5bad626be3935dc59fdbcd833f57ba399a1061fc40c8a41bf4de2904f42fe664",
    },
    "mnist5k-dynamic": {
        "train": "ecbbe973534fd8921133cbc40836947b9b83e61c01b521b9f3f25c22f4c41a08",
        "validation": "e792f4119f34c2522849ed3ecfe69a5f7ba7fa49db91906c1eeccc76cb155114",
        "test": "eb87e76d71e90ecf85a3489b2eb356a6930393ac5c4b4efa618d19452db7d245",
    },
    "mnist5k-static": {
        "train": "f6159752051f48593aa07d46205db484fc030a61959301e22e06e761eee3e31a",
        "validation": "a1bde5563251a3aec90ec4ebcdbb83e29b593ea27fe71b8ea73543e5625139cd",
        "test": "cd4befce806c2dd3a98eaee88debe9cb48436b2a56093eec7159f8d51313c220",
    },
    "mnist5k-threshold": {
        "train": "382c781b4c2267dab19c1ef7c1c330c3c6f58a828e5fcf132d7c5ea1f31798f4",
        "validation": "fb62b003ece75757df8249d5782268ebdaeae1699f36bfd3ceba78488493c6e5",
        "test": "ba245eb9a48e8e2876fa64ed3784deb675454bde4752e31f3677663c107feb82",
    },
    "photos32": {
        "train": "7781e69bfc0c1306084da017295d3158a2a965949ba9e54aad61918a05638e34",
        "validation": "74bfd687ca9490c2530dd462046f411aaf3ecd6296df8b25e751ae8c5bb3300e",
        "test": "e6a820eaf78900d0c875efd583bab394394ff8edcf52725d0adfd93fde287c55",
    },
    "addition": {
        "train": "8bc42c937671db096371e58d90f995f5b7d535d3e730b12b0f5c8d2a7312b52b",
        "validation": "f85530a5b63c8a52c4104086063debc7d4cf26e77810089571dfa82e64791073",
        "test": "6ccb1697befbfd3b54dabdb35d2dd99d7118acdbba791e7a6aa7a8bc61a40f48",
    },
    "full_rank": {
        "train": "9866b50777c2ffd7870cda7d74ee22be8fa713478ce0fbbde3889568ee0568e8",
        "validation": "c12fb94db5a24f5a11996cd8d5043875aa5ff0426f876ad5a7a32829a24c6a93",
        "test": "3793240b8aae1109df3c14d897318f6ccb9af0d6834e72156d1ccb0e0fba0f01",
    },
    "potts": {
        "train": "fbebad20d6971fe83519ad2f037fdca02ba6e6412a9ccf06117e67df0c7cf210",
        "validation": "45725368ec71cff44db1bad6247339c67a5c1671e536ecea2f56edcb1da7f9dd",
        "test": "d4d060a4dee14a426e8e930c9d249e9f0c22728a673651c7fc09b6f9e7f38b9b",
    },
    "fashion_mnist": {
        "train": "f89027e224c3900bb6ead231e81f21440665998217a0f538b30a33986413263a",
        "validation": "7ae3eadc17dcb4124d93805c42961c6dec965602ed1efff1752d33d6855c86ce",
        "test": "f220cf34691fd690268779172c50af2eab13d9d87a3dd56ee7296f1fa90176a5",
    },
}
