"""Providers' keys as they lie in the database: encrypted, so that a copy of it opens nobody's account.

`cryptography` (8 MB, 30 ms) is imported by the first key that is sealed or opened: call these methods in a thread.
"""

import os
import secrets
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from anyio import to_thread
from msgspec import Struct, structs
from structlog.typing import FilteringBoundLogger

from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.admin.outcomes import OvertakenError
from llmgateway.storage.admin.rows import Deed, ProviderRow

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

FILE = "encryption.key"
_KEY_BYTES = 32
_PAGE_SIZE = 100


class SealError(ValueError):
    """A key is no encryption key, or not the one that something was encrypted with; says what to do, never the key."""


def new_encryption_key() -> str:
    """Make a key for `Seal`: 32 random bytes as Fernet's specification writes them."""
    return urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


class Seal:
    """Encrypts with the first of its keys, and opens what any of them encrypted.

    Args:
        keys: At least one.

    Raises:
        SealError: One is no such key.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [_checked(number, key) for number, key in enumerate(keys, 1)]
        if not keys:
            raise SealError("There is no encryption key: `llmgateway keys new-encryption-key` makes one")
        self._made: MultiFernet | None = None
        self._making = Lock()

    def seal(self, text: str) -> str:
        """Encrypt; the same text looks different each time."""
        return self._fernets().encrypt(text.encode()).decode()

    def unseal(self, sealed: str) -> str:
        """Decrypt.

        Raises:
            SealError: None of the keys made it.
        """
        from cryptography.fernet import InvalidToken  # noqa: PLC0415  see above

        try:
            return self._fernets().decrypt(sealed.encode()).decode()
        except (InvalidToken, UnicodeError) as error:
            raise SealError(
                f"What is encrypted in the database was not encrypted with any of the {len(self._keys)} keys given: "
                "add the key it was encrypted with behind the others of LLMGATEWAY_ENCRYPTION_KEYS"
            ) from error

    def reseal(self, sealed: str) -> str:
        """Encrypt anew, with the first key.

        Raises:
            SealError: None of the keys made it.
        """
        return self.seal(self.unseal(sealed))

    def _fernets(self) -> "MultiFernet":
        with self._making:
            if self._made is None:
                from cryptography.fernet import Fernet, MultiFernet  # noqa: PLC0415  see above

                self._made = MultiFernet([Fernet(key) for key in self._keys])
            return self._made


class LazySeal:
    """The seal of a gateway, made when a key is first sealed or opened: most never do, and need no key file.

    Args:
        data_dir, keys: As of `key_file`.

    Raises:
        SealError: One of the keys is none.
    """

    def __init__(self, data_dir: Path, keys: Sequence[str], logger: FilteringBoundLogger) -> None:
        if keys:
            Seal(keys)
        self._folder = data_dir
        self._keys = keys
        self._logger = logger
        self._seal: Seal | None = None
        self._making = Lock()

    def seal(self, text: str) -> str:
        """Encrypt; blocks."""
        return self._made().seal(text)

    def unseal(self, sealed: str) -> str:
        """Decrypt; blocks. Raises: SealError."""
        return self._made().unseal(sealed)

    def _made(self) -> Seal:
        with self._making:
            if self._seal is None:
                self._seal = key_file(self._folder, self._keys, self._logger)
            return self._seal


def _checked(number: int, key: str) -> str:
    with suppress(ValueError):
        if len(b64decode(key, b"-_", validate=True)) == _KEY_BYTES:
            return key
    raise SealError(
        f"Encryption key {number} is none: it must be {_KEY_BYTES} random bytes in URL-safe base64 (44 characters); "
        "`llmgateway keys new-encryption-key` makes one"
    )


def key_file(data_dir: Path, keys: Sequence[str], logger: FilteringBoundLogger) -> Seal:
    """Make the seal from the settings' keys, else from a file that is made when it is not there; blocks.

    A file that is there goes on opening what it encrypted when the settings name keys.

    Raises:
        SealError: A key is none, or the file can be neither read nor written.
    """
    path = data_dir / FILE
    try:
        if keys:
            return Seal([*keys, *(_read(path) if path.exists() else [])])
        if not path.exists() and _make(path):
            logger.warning(
                "encryption_key_made",
                file=str(path),
                effect="without this file the providers' keys in the database cannot be opened: keep a copy, "
                "or set LLMGATEWAY_ENCRYPTION_KEYS",
            )
        if path.stat().st_mode & 0o077:
            logger.warning("encryption_key_readable", file=str(path), effect="others can read it: chmod 600")
        return Seal(_read(path))
    except OSError as error:
        raise SealError(
            f"The encryption key's file {path} can be neither read nor made ({error.strerror}): "
            "let this user do so, or set LLMGATEWAY_ENCRYPTION_KEYS"
        ) from error


def _read(path: Path) -> list[str]:
    return path.read_text("ascii", "replace").split()


def _make(path: Path) -> bool:
    """Make the file, whole or not at all; false when another process was first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "w") as writing:
            writing.write(f"{new_encryption_key()}\n")
            writing.flush()
            os.fsync(file)
        # Unlike a rename, a link never takes the place of a file that is there.
        with suppress(FileExistsError):
            os.link(unfinished, path)
            return True
        return False
    finally:
        unfinished.unlink()


class Resealed(Struct, frozen=True):
    """How a rotation went.

    Args:
        failed: The providers whose key could not be opened, and was left alone.
    """

    done: int
    failed: list[str]


async def rotate(admin_storage: AdminStorage, seal: Seal, *, actor: str = "cli") -> Resealed:
    """Encrypt every provider's key anew with the first key, so that older ones may be forgotten."""
    done, failed, number = 0, [], 1
    while rows := (await admin_storage.providers(number, _PAGE_SIZE)).rows:
        for row in rows:
            try:
                done += await _reseal(admin_storage, seal, row, actor)
            except SealError:
                failed.append(row.name)
        number += 1
    return Resealed(done, failed)


async def _reseal(admin_storage: AdminStorage, seal: Seal, row: ProviderRow, actor: str) -> bool:
    deed = Deed(actor=actor, action="provider.rotate_encryption", subject=row.name)
    current: ProviderRow | None = row
    while current is not None and current.sealed_key is not None:
        sealed = await to_thread.run_sync(seal.reseal, current.sealed_key)
        anew = structs.replace(current, sealed_key=sealed, updated_at=datetime.now(UTC))
        try:
            return await admin_storage.replace_provider(anew, deed, instead_of=current)
        except OvertakenError:
            # Its new key may have been encrypted with the old one by a process that knows no other.
            current = await admin_storage.provider(row.name)
    return False
