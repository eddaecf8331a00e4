"""Words that make a text more likely to be sensitive, by category; never enough by themselves."""

from collections.abc import Mapping

KEYWORDS: Mapping[str, tuple[str, ...]] = {
    "authentication": (
        *("password", "passphrase", "passcode", "credentials", "login credentials", "private key", "secret key"),
        *("api key", "access token", "one-time code", "recovery code", "security question", "two-factor code"),
        *("passwort", "kennwort", "zugangsdaten", "mot de passe", "contraseña", "wachtwoord"),
    ),
    "personal": (
        *("social security number", "passport number", "date of birth", "place of birth", "home address"),
        *("maiden name", "marital status", "sexual orientation", "ethnicity", "driver's license", "personal data"),
        *("geburtsdatum", "personalausweis", "numéro de sécurité sociale", "fecha de nacimiento"),
    ),
    "financial": (
        *("salary", "payslip", "bank account", "account number", "routing number", "credit card", "card number", "cvv"),
        *("tax return", "net worth", "credit score", "wire transfer", "overdraft", "gehalt", "kontonummer", "salaire"),
    ),
    "health": (
        *("diagnosis", "diagnosed", "medical record", "medical history", "prescription", "medication", "chemotherapy"),
        *("hiv positive", "mental illness", "psychiatric", "pregnancy", "disability", "patient id", "krankmeldung"),
    ),
    "business": (
        *("confidential", "strictly confidential", "internal only", "trade secret", "proprietary", "not for release"),
        *("merger", "acquisition target", "layoffs", "unreleased", "insider", "vertraulich", "betriebsgeheimnis"),
    ),
    "legal": (
        *(
            "attorney-client",
            "privileged",
            "litigation",
            "lawsuit",
            "subpoena",
            "settlement",
            "indictment",
            "plaintiff",
        ),
        *("non-disclosure agreement", "nda", "under seal", "custody", "probation"),
    ),
    "code_security": (
        *("vulnerability", "exploit", "zero-day", "sql injection", "remote code execution", "privilege escalation"),
        *("backdoor", "hardcoded password", "unpatched", "penetration test", "root password"),
    ),
}
