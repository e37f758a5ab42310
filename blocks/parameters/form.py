"""How parameters look in the forms on Prefect's pages. It does not change which values are allowed."""

from dataclasses import dataclass

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


@dataclass(frozen=True)
class Tabs:
    """Shows the alternatives of a union as tabs with these names. Without names, each has its own title.

    The schema always has ``anyOf``, because one of Prefect's two pages shows a ``oneOf`` as a field for JSON.
    """

    names: tuple[str, ...] = ()

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema of the union in a form that Prefect's pages understand."""
        schema = handler(core)
        alternatives = schema.pop("oneOf", None) or schema.pop("anyOf", None)
        if alternatives is None:  # A single alternative needs no tabs.
            return schema
        schema.pop("discriminator", None)
        for alternative, name in zip(alternatives, self.names, strict=False):
            alternative["title"] = name
        return {**schema, "anyOf": alternatives}


def leave_null_out(schema: JsonSchemaValue) -> None:
    """Show an optional field of a parameter model as a field that may stay empty. Prefect also accepts a null there."""
    for field in schema.get("properties", {}).values():
        alternatives = [one for one in field.get("anyOf", ()) if one != {"type": "null"}]
        if len(alternatives) == 1 and len(field["anyOf"]) == 2:
            del field["anyOf"]
            field.update(alternatives[0])
            if field.get("default", ...) is None:
                del field["default"]
