"""The little of libpq that psql 15 can't do: bind parameters and binary results in the extended protocol."""

import ctypes
import ctypes.util

from . import paths
from .psql import PgError

_P, _S, _I = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
_SIGNATURES = {
    "PQconnectdb": (_P, [_S]), "PQstatus": (_I, [_P]), "PQerrorMessage": (_S, [_P]), "PQfinish": (None, [_P]),
    "PQsetErrorVerbosity": (_I, [_P, _I]), "PQexec": (_P, [_P, _S]), "PQbackendPID": (_I, [_P]),
    "PQparameterStatus": (_S, [_P, _S]),
    "PQexecParams": (_P, [_P, _S, _I, _P, _P, _P, _P, _I]), "PQprepare": (_P, [_P, _S, _S, _I, _P]),
    "PQexecPrepared": (_P, [_P, _S, _I, _P, _P, _P, _I]),
    "PQresultStatus": (_I, [_P]), "PQresultErrorMessage": (_S, [_P]), "PQclear": (None, [_P]), "PQntuples": (_I, [_P]),
    "PQnfields": (_I, [_P]), "PQgetvalue": (_P, [_P, _I, _I]), "PQgetlength": (_I, [_P, _I, _I]), "PQgetisnull": (_I, [_P, _I, _I]),
    "PQputCopyData": (_I, [_P, _S, _I]), "PQputCopyEnd": (_I, [_P, _S]), "PQgetResult": (_P, [_P]),
    "PQgetCopyData": (_I, [_P, ctypes.POINTER(_P), _I]), "PQfreemem": (None, [_P]), "PQsetNoticeProcessor": (_P, [_P, _P, _P]),
    "PQdescribePrepared": (_P, [_P, _S]), "PQftype": (ctypes.c_uint, [_P, _I]), "PQftable": (ctypes.c_uint, [_P, _I]), "PQftablecol": (_I, [_P, _I]),
}
_COMMAND_OK, _TUPLES_OK, _COPY_OUT, _COPY_IN = 1, 2, 3, 4
_NOTICE = ctypes.CFUNCTYPE(None, _P, _S)


def _load():
    library = ctypes.CDLL(str(next(p for p in (paths.pg_config("--libdir") / "libpq.so.5", ctypes.util.find_library("pq")) if p and (
        isinstance(p, str) or p.exists()))))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


_pq = None


class Connection:
    """One connection. Parameters: str as text, bytes in binary format, None as null."""

    def __init__(self, cluster, db="postgres", user="postgres", options=""):
        global _pq
        _pq = _pq or _load()
        self.notices = []
        conninfo = f"host={cluster.socket} port={cluster.port} user={user} dbname={db} options='{options}'"
        self._conn = _pq.PQconnectdb(conninfo.encode())
        if _pq.PQstatus(self._conn) != 0:
            raise PgError(_pq.PQerrorMessage(self._conn).decode())
        _pq.PQsetErrorVerbosity(self._conn, 2)
        self._on_notice = _NOTICE(lambda _, text: self.notices.append(text.decode("utf-8", "replace")))
        _pq.PQsetNoticeProcessor(self._conn, self._on_notice, None)
        self.pid = _pq.PQbackendPID(self._conn)

    def execute(self, sql, *parameters, binary=False):
        """Rows as lists of str (bytes with binary=True); without parameters by the simple protocol."""
        if not parameters and not binary:
            return self._rows(_pq.PQexec(self._conn, sql.encode()), binary)
        return self._rows(_pq.PQexecParams(self._conn, sql.encode(), *self._arguments(parameters, True), binary), binary)

    def reported(self, setting):
        """The value that the server has reported of a setting; None if it reports none."""
        value = _pq.PQparameterStatus(self._conn, setting.encode())
        return value and value.decode()

    def prepare(self, name, sql):
        self._rows(_pq.PQprepare(self._conn, name.encode(), sql.encode(), 0, None), False)

    def described(self, name):
        """Of a prepared statement: (type, table, number in the table) of each column, types and tables as OIDs."""
        return self._columns(_pq.PQdescribePrepared(self._conn, name.encode()))

    def announced(self, sql, *parameters, binary=False):
        """The same of the result of a statement that runs, by the extended protocol if it has parameters or is to be binary."""
        if not parameters and not binary:
            return self._columns(_pq.PQexec(self._conn, sql.encode()))
        return self._columns(_pq.PQexecParams(self._conn, sql.encode(), *self._arguments(parameters, True), binary))

    def _columns(self, result):
        fields = range(_pq.PQnfields(result))
        columns = [(_pq.PQftype(result, at), _pq.PQftable(result, at), _pq.PQftablecol(result, at)) for at in fields]
        self._rows(result, True)
        return columns

    def execute_prepared(self, name, *parameters, binary=False):
        return self._rows(_pq.PQexecPrepared(self._conn, name.encode(), *self._arguments(parameters, False), binary), binary)

    def copy_in(self, sql, data):
        self._rows(_pq.PQexec(self._conn, sql.encode()), False)
        for at in range(0, len(data), 1 << 20):
            part = data[at:at + (1 << 20)]
            _pq.PQputCopyData(self._conn, part, len(part))
        _pq.PQputCopyEnd(self._conn, None)
        self._rows(_pq.PQgetResult(self._conn), False)
        while result := _pq.PQgetResult(self._conn):
            _pq.PQclear(result)

    def copy_out(self, sql):
        self._rows(_pq.PQexec(self._conn, sql.encode()), False)
        data, buffer = bytearray(), _P()
        while (length := _pq.PQgetCopyData(self._conn, ctypes.byref(buffer), 0)) > 0:
            data += ctypes.string_at(buffer, length)
            _pq.PQfreemem(buffer)
        self._rows(_pq.PQgetResult(self._conn), False)
        while result := _pq.PQgetResult(self._conn):
            _pq.PQclear(result)
        return bytes(data)

    @staticmethod
    def _arguments(parameters, types):
        count = len(parameters)
        values = [None if p is None else p if isinstance(p, bytes) else str(p).encode() for p in parameters]
        arrays = [
            (_S * count)(*values), (_I * count)(*[len(v or b"") for v in values]), (_I * count)(*[isinstance(p, bytes) for p in parameters])]
        return [count, *([None] if types else []), *arrays]

    def _rows(self, result, binary):
        try:
            status = _pq.PQresultStatus(result)
            if status not in (_COMMAND_OK, _TUPLES_OK, _COPY_OUT, _COPY_IN):
                raise PgError(_pq.PQresultErrorMessage(result).decode("utf-8", "replace"))
            return [[self._value(result, row, column, binary) for column in range(_pq.PQnfields(result))] for row in range(_pq.PQntuples(result))]
        finally:
            _pq.PQclear(result)

    @staticmethod
    def _value(result, row, column, binary):
        if _pq.PQgetisnull(result, row, column):
            return None
        data = ctypes.string_at(_pq.PQgetvalue(result, row, column), _pq.PQgetlength(result, row, column))
        return data if binary else data.decode()

    def close(self):
        if self._conn:
            _pq.PQfinish(self._conn)
            self._conn = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
