"""What the sections of a recipe are made of: frozen values that check themselves."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from parsinet.methods.options import MOST_SEED


def _number(value: Any) -> Any:
    """yes and no are no numbers."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, got {value}")
    return value


Whole = Annotated[int, Field(strict=True, ge=0)]
Seed = Annotated[int, Field(strict=True, ge=0, le=MOST_SEED)]
Count = Annotated[int, Field(strict=True, ge=1)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), BeforeValidator(_number)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_number)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_number)]
Flag = Annotated[bool, Field(strict=True)]


class Part(BaseModel):
    """A section of a recipe: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NamedPart(BaseModel):
    """A section with a name and free options, which whoever bears the name checks: `{name: mlp, widths: [64, 32]}`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @property
    def options(self) -> dict[str, Any]:
        """Everything beside the name."""
        return dict(self.__pydantic_extra__ or {})
