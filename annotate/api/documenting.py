"""The OpenAPI schema, completed with what every operation shares, and the page that shows it."""

from __future__ import annotations

from typing import Any

from ninja import NinjaAPI
from ninja.errors import ValidationError
from ninja.openapi.schema import REF_TEMPLATE, OpenAPISchema

from annotate.api.problems import MEDIA
from annotate.api.repeating import HEADER
from annotate.api.schemas import ProblemOut

KEY = {
    "in": "header",
    "name": HEADER,
    "required": False,
    "schema": {"type": "string", "maxLength": 200, "pattern": "^[ -~]*$"},
    "description": "Sent again with the same key within a day, the request gets the answer that it got.",
}
MOST_NAMED = 1_000
METHODS = ("get", "post", "put", "patch", "delete")


class DocumentedAPI(NinjaAPI):
    """NinjaAPI whose schema also says how errors look and which requests take a key."""

    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        schema = super().get_openapi_schema(**options)
        schema["components"]["schemas"] |= problem_schemas()
        verbs = self.verbs()
        for operations in schema["paths"].values():
            for method in METHODS:
                if method in operations:
                    complete(operations[method], method, verbs[operations[method]["operationId"]])
        return schema

    def verbs(self) -> dict[str, str]:
        """What a token must be allowed for each operation."""
        views = [view for router in self._get_bound_routers() for view in router.path_operations.values()]
        found = [operation for view in views for operation in view.operations]
        return {self.get_openapi_operation_id(one): one.auth_callbacks[0].verb for one in found}  # type: ignore[attr-defined]

    def validation_error_from_error_contexts(self, error_contexts: list[Any]) -> ValidationError:
        """Of a body that is wrong in a thousand places, only how many: naming each would cost more than reading it."""
        count = sum(context.pydantic_validation_error.error_count() for context in error_contexts)
        if count > MOST_NAMED:
            return ValidationError(
                [{"loc": ["body"], "msg": f"There are {count:,} errors; look at the schema."}]
            )
        return super().validation_error_from_error_contexts(error_contexts)

    def get_openapi_operation_id(self, operation: Any) -> str:
        return str(operation.view_func.__name__)


def problem_schemas() -> dict[str, Any]:
    found = ProblemOut.model_json_schema(ref_template=REF_TEMPLATE)
    return {**found.pop("$defs"), "Problem": found}


def complete(operation: dict[str, Any], method: str, verb: str) -> None:
    operation["x-verb"] = verb
    reference = {"$ref": REF_TEMPLATE.format(model="Problem")}
    problem = {"description": "A problem", "content": {MEDIA: {"schema": reference}}}
    operation["responses"] |= {"4XX": problem, "5XX": problem}
    if method == "post" and KEY not in operation["parameters"]:
        operation["parameters"].append(KEY)
