"""The least bits/dim that honest models are known to reach, with room to spare: less asks for a proof.

Known by the fingerprint of the exact integers where they ship with the package, and by name for official sets.
"""

from __future__ import annotations

# Name of the data set -> bits/dim. Sources: the published records as of 2025, minus about 10%: CIFAR-10 2.4 (bounds), MNIST static 78
# nats, 8-bit MNIST 0.9; context tables for the embedded sets reach 1.26 (mnist5k).
BY_NAME: dict[str, float] = {
    "mnist5k": 0.75,
    "mnist": 0.75,
    "mnist-static": 72 / (784 * 0.6931),
    "mnist5k-static": 60 / (784 * 0.6931),
    "cifar10": 2.2,
}


def plausible_minimum(name: str, fingerprint: str) -> float | None:
    """Bits/dim below which a number on this data set is a mistake; None for data nothing is known of.

    Args:
        name: Name of the data set; options after "@" make it another one.
        fingerprint: SHA-256 of the scored split, where it is in BY_FINGERPRINT.
    """
    return BY_FINGERPRINT.get(fingerprint, BY_NAME.get(name))


# SHA-256 of a split's integers -> bits/dim: the splits that ship with the package, whatever name they come under.
BY_FINGERPRINT: dict[str, float] = {
    "179b96517a0bcfd0856b8b3bdd12a7308c316acc8f4e37c9c78cf7cbe01e6963": 0.75,  # mnist5k validation
    "5bad626be3935dc59fdbcd833f57ba399a1061fc40c8a41bf4de2904f42fe664": 0.75,  # mnist5k test
    "d577b1ac57934d51cd136050d2bba84e69b14990a7179adaac0001884cd4a57a": 1.2,  # digits validation
    "4ca08f75307c99878d4a3f56918fab9cab63a0d53044af086153e9286d4e82a4": 1.2,  # digits test
    "74bfd687ca9490c2530dd462046f411aaf3ecd6296df8b25e751ae8c5bb3300e": 2.0,  # photos32 validation
    "e6a820eaf78900d0c875efd583bab394394ff8edcf52725d0adfd93fde287c55": 2.0,  # photos32 test
}
