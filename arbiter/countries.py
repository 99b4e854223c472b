"""Countries as data protection law sees them, by ISO 3166 alpha-2 code. Pure.

Checked against their sources on `EVIDENCE_DATE`.
"""

from __future__ import annotations

from datetime import date

EVIDENCE_DATE = date(2026, 11, 23)

# fmt: off
EU = frozenset((
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU",
    "IE", "IT", "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
))
"""The 27 member states since 1 February 2020 (Article 52 TEU, less the United Kingdom)."""

EEA = EU | {"IS", "LI", "NO"}
"""The GDPR was taken into the EEA Agreement by Joint Committee Decision 154/2018."""

ADEQUATE = frozenset((
    "AD", "AR", "BR", "CH", "FO", "GB", "GG", "IL", "IM", "JE", "JP", "KR", "NZ", "UY",
))
# fmt: on
"""Adequacy decisions of the Commission for a whole country, after the CNPD's list of 2026.

Brazil: Decision (EU) 2026/179 of 26 January 2026. United Kingdom: renewed on 19 December 2025,
ends on 27 December 2031.
"""

ADEQUATE_FOR_SOME = {
    "CA": "adequate only for recipients under PIPEDA",
    "US": "adequate only for firms certified under the Data Privacy Framework",
}
"""The US decision was upheld on 3 September 2025 (T-553/23); the appeal C-703/25 P was open in
June 2026. Whether one operator is certified is not recorded here."""


def transfer_basis(country: str | None) -> str:
    """On what a transfer of personal data to a country may rest, in a few words."""
    if country is None:
        return "unknown"
    if country in EU:
        return "none needed, EU"
    if country in EEA:
        return "none needed, EEA"
    if country in ADEQUATE:
        return "adequacy decision"
    return ADEQUATE_FOR_SOME.get(country, "none")
