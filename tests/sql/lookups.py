"""
Finds what is looked up by search_path in the functions of SQL files that have no fixed one, and in DO blocks: whoever may set
the search_path of the session would otherwise say what they run. Prints a line a finding.

    lookups.py FILE...

Run by an interpreter that has pglast.
"""

import json
import re
import sys
from pathlib import Path

from pglast import ast, enums, parse_plpgsql, parse_sql
from pglast.parser import ParseError
from pglast.visitors import Visitor

FIXED = "pg_catalog, pg_temp"
# What PostgreSQL calls these constructs.
EXPRESSIONS = {
    enums.A_Expr_Kind.AEXPR_DISTINCT: "IS DISTINCT FROM",
    enums.A_Expr_Kind.AEXPR_NOT_DISTINCT: "IS NOT DISTINCT FROM",
    enums.A_Expr_Kind.AEXPR_NULLIF: "NULLIF",
    enums.A_Expr_Kind.AEXPR_IN: "IN",
    enums.A_Expr_Kind.AEXPR_LIKE: "LIKE",
    enums.A_Expr_Kind.AEXPR_ILIKE: "ILIKE",
    enums.A_Expr_Kind.AEXPR_SIMILAR: "SIMILAR TO",
    enums.A_Expr_Kind.AEXPR_BETWEEN: "BETWEEN",
    enums.A_Expr_Kind.AEXPR_NOT_BETWEEN: "NOT BETWEEN",
    enums.A_Expr_Kind.AEXPR_BETWEEN_SYM: "BETWEEN SYMMETRIC",
    enums.A_Expr_Kind.AEXPR_NOT_BETWEEN_SYM: "NOT BETWEEN SYMMETRIC",
}
# How PL/pgSQL parses an expression (enum RawParseMode of PostgreSQL): a statement, an expression, or an assignment.
STATEMENT, EXPRESSION = 0, 2


class Lookups(Visitor):
    """Collects what a parse tree looks up by an unqualified name."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.queries = set()

    def qualified(self, names, what):
        if names is not None and len(names) < 2:
            self.found.append(f"{what} {names[0].sval}")

    def visit_A_Expr(self, _, node):
        if node.kind in EXPRESSIONS:
            self.found.append(EXPRESSIONS[node.kind])
        else:
            self.qualified(node.name, "operator")

    def visit_CaseExpr(self, _, node):
        if node.arg is not None:
            self.found.append("CASE with an operand")

    def visit_FuncCall(self, _, node):
        self.qualified(node.funcname, "function")

    def visit_TypeName(self, _, node):
        self.qualified(node.names, "type")

    def visit_CollateClause(self, _, node):
        self.qualified(node.collname, "collation")

    def visit_SortBy(self, _, node):
        self.qualified(node.useOp, "operator")

    def visit_SubLink(self, _, node):
        if node.testexpr is not None:
            if node.operName is None:
                self.found.append("IN")
            else:
                self.qualified(node.operName, "operator")

    def visit_JoinExpr(self, _, node):
        if node.usingClause or node.isNatural:
            self.found.append("JOIN USING")

    def visit_CommonTableExpr(self, _, node):
        self.queries.add(f"relation {node.ctename}")

    def visit_RangeVar(self, _, node):
        if node.schemaname is None:
            self.found.append(f"relation {node.relname}")


def of_sql(text):
    """What SQL looks up."""
    visitor = Lookups()
    visitor(parse_sql(text))
    return [one for one in visitor.found if one not in visitor.queries]


def nodes(tree, name):
    """Every node of this kind in the JSON of a function."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key == name:
                yield value
            yield from nodes(value, name)
    elif isinstance(tree, list):
        for value in tree:
            yield from nodes(value, name)


def of_expression(node):
    query, mode = node["query"], node.get("parseMode", STATEMENT)
    if mode == STATEMENT:
        return of_sql(query)
    if mode != EXPRESSION:
        query = re.split(r":?=", query, maxsplit=1)[1]
    return of_sql(f"SELECT {query}")


def without_comments(text):
    """Without comments; strings have none in these files."""
    return re.sub(r"--[^\n]*", "", re.sub(r"/\*.*?\*/", "", text, flags=re.S))


def of_declarations(body):
    """What the types of variables look up. PL/pgSQL's parser tells them resolved, so they are read from the text."""
    found = []
    for section in re.findall(r"\bDECLARE\b(.*?)\bBEGIN\b", without_comments(body), re.S):
        for declaration in filter(str.strip, section.split(";")):
            match = re.match(r"\s*(\w+)\s+(?:CONSTANT\s+)?(.+?)\s*(?:NOT NULL\s*)?(?::=|=|\bDEFAULT\b|$)", declaration, re.S)
            name, type_name = match.groups()
            if type_name.endswith(("%TYPE", "%ROWTYPE")):
                found += [] if type_name.count(".") >= 1 + type_name.endswith("%TYPE") else [f"type {type_name}"]
            else:
                found += [f"{one} (of {name})" for one in of_sql(f"SELECT NULL::{type_name}")]
    return found


def of_plpgsql(statement, body):
    # The parser knows no schema but these, and no arrays of types that it does not know.
    statement = re.sub(r"prism_crypt\.(_\w+)\[\]", "pg_catalog.text[]", statement).replace("prism_crypt.", "public.")
    tree = parse_plpgsql(statement)
    found = of_declarations(body)
    if any("t_expr" in case for case in nodes(tree, "PLpgSQL_stmt_case")):
        found.append("CASE with an operand")
    for expression in nodes(tree, "PLpgSQL_expr"):
        if "__Case__Variable" not in expression["query"]:
            found += of_expression(expression)
    return found


def parts(options):
    """{name: argument} of CREATE FUNCTION or DO, and what it sets."""
    return {o.defname: o.arg for o in options}, {o.arg.name: o.arg.args for o in options if o.defname == "set"}


def routines(text):
    """(name, language, body, statement, search_path or None) of each CREATE FUNCTION, CREATE PROCEDURE and DO."""
    source = text.encode()
    for raw in parse_sql(text):
        # The parser counts bytes.
        statement = source[raw.stmt_location:raw.stmt_location + raw.stmt_len if raw.stmt_len else None].decode()
        if isinstance(raw.stmt, ast.CreateFunctionStmt):
            if raw.stmt.sql_body is not None:
                # Parsed when it is made.
                continue
            options, sets = parts(raw.stmt.options)
            path = sets.get("search_path")
            yield (".".join(name.sval for name in raw.stmt.funcname), options["language"].sval,
                   options["as"][0].sval, statement, path and ", ".join(value.val.sval for value in path))
        elif isinstance(raw.stmt, ast.DoStmt):
            options, _ = parts(raw.stmt.args)
            body = options["as"].sval
            yield "DO", "plpgsql", body, f"CREATE FUNCTION public.f() RETURNS void LANGUAGE plpgsql AS $lint${body}$lint$", None


def of_file(text):
    """Findings in a file."""
    for name, language, body, statement, path in routines(text.replace("@extschema@", "public")):
        if language not in ("sql", "plpgsql"):
            continue
        if path is not None:
            found = [] if path == FIXED else [f"search_path {path}, not {FIXED}"]
        else:
            found = of_sql(body) if language == "sql" else of_plpgsql(statement, body)
        for one in found:
            yield f"{name}: {one}"


def main():
    for file in sys.argv[1:]:
        try:
            for finding in of_file(Path(file).read_text(encoding="utf-8")):
                print(f"{Path(file).name}: {finding}")
        except (ParseError, AttributeError) as error:
            print(f"{Path(file).name}: can't be read: {error}")


if __name__ == "__main__":
    main()
