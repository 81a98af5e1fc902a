"""Where a study is kept: a database, a journal file, SQLite in the sweep's folder; and what they raise, in one sentence."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import sqlalchemy.exc
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from parsinet.errors import MissingExtraError, StorageError, UsageError
from parsinet.files import make_folder

_FORMS = "postgresql://user:password@host/database, sqlite:///file.db, or the path of a journal file such as sweep.log"


def storage_at(place: str | None, folder: Path) -> BaseStorage:
    """A database for a URL, a journal for a path, SQLite in the sweep's folder for None."""
    if place is None:
        return _database(f"sqlite:///{folder / 'study.db'}")
    if "://" in place:
        return _database(place)
    path = Path(place)
    if path.is_dir() or path.suffix in (".db", ".sqlite", ".sqlite3"):
        raise UsageError(f"--storage {place} is no journal file. Write {_FORMS}.")
    make_folder(path.parent)
    return JournalStorage(JournalFileBackend(str(path)))


def _database(url: str) -> RDBStorage:
    """The database; made by whoever is first, so that one of several that begin at once may fail once."""
    for _ in range(4):
        try:
            return RDBStorage(url)
        except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.ProgrammingError, sqlalchemy.exc.IntegrityError):
            time.sleep(0.5)
    return RDBStorage(url)


@contextlib.contextmanager
def storage_faults(place: str | None = None) -> Iterator[None]:
    """Turn what databases and journal files raise into one sentence; passwords in URLs stay out of it."""
    try:
        yield
    except sqlalchemy.exc.ArgumentError:
        raise UsageError(f"--storage {_shown(place)} is no database URL. Write {_FORMS}.") from None
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"--storage {_shown(place)} needs the driver {error.name}: pip install {error.name}.") from None
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error.__cause__ or error).strip().splitlines()[0].rstrip(".")
        raise StorageError(
            f"The storage of the sweep cannot be used ({reason}). Finished trials are safe; mend it and run the same command again."
        ) from error


def _shown(place: str | None) -> str:
    """A URL as it may be shown: without what stands before its host."""
    kind, sign, rest = (place or "").partition("://")
    return f"{kind}://…{rest.rpartition('@')[2]}" if sign and "@" in rest else (place or "")
