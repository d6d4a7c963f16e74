"""The kinds of measurement a spec may ask for."""

from typing import Annotated

from pydantic import Field

from engine.spec.analytical import AnalyticalSettings
from engine.spec.device_probe import DeviceProbeSettings
from engine.spec.energy import EnergySettings
from engine.spec.live import LiveSettings
from engine.spec.run_folder import RunFolderSettings
from engine.spec.training import TrainingSettings

Measurement = Annotated[
    AnalyticalSettings
    | LiveSettings
    | EnergySettings
    | RunFolderSettings
    | TrainingSettings
    | DeviceProbeSettings,
    Field(discriminator="kind"),
]
