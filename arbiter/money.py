"""Money: an integer of a millionth and a currency. Two currencies never add."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

MICROS = 1_000_000


@dataclass(frozen=True, slots=True, order=False)
class Price:
    """An amount of money, exact to a millionth of its currency.

    Attributes:
        micros: the amount in millionths of the currency.
        currency: ISO 4217 code, upper case.
    """

    micros: int
    currency: str = "USD"

    @classmethod
    def of(cls, amount: Decimal | str | int, currency: str = "USD") -> Price:
        """The price of a decimal amount, rounded half-even to a millionth.

        Raises:
            ValueError: the amount is not a finite number. Floats are refused by type: they
                have already lost the digits.
        """
        if isinstance(amount, float):
            raise TypeError("a float is not money; pass a Decimal or a string")
        try:
            value = Decimal(amount)
        except InvalidOperation as error:
            raise ValueError(f"not an amount of money: {amount!r}") from error
        if not value.is_finite():
            raise ValueError(f"not an amount of money: {amount!r}")
        micros = (value * MICROS).to_integral_value(rounding=ROUND_HALF_EVEN)
        return cls(int(micros), currency)

    @property
    def amount(self) -> Decimal:
        """The amount in whole units of the currency."""
        return Decimal(self.micros) / MICROS

    def __add__(self, other: Price) -> Price:
        return Price(self.micros + self._same(other), self.currency)

    def __sub__(self, other: Price) -> Price:
        return Price(self.micros - self._same(other), self.currency)

    def times(self, factor: Decimal | int) -> Price:
        """The price multiplied, rounded half-even to a millionth."""
        exact = Decimal(self.micros) * factor
        return Price(int(exact.to_integral_value(rounding=ROUND_HALF_EVEN)), self.currency)

    def __lt__(self, other: Price) -> bool:
        return self.micros < self._same(other)

    def __le__(self, other: Price) -> bool:
        return self.micros <= self._same(other)

    def __str__(self) -> str:
        return f"{decimal_string(self.amount)} {self.currency}"

    def _same(self, other: Price) -> int:
        if other.currency != self.currency:
            raise ValueError(f"{self.currency} and {other.currency} cannot be combined")
        return other.micros


def decimal_string(amount: Decimal) -> str:
    """A plain decimal, without an exponent and without padding zeros ("3.06", "0.5", "12")."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
