"""All settings: Kafka's property name, type, default, bounds, and what each does here.

Role: declare the settings of the broker and of topics, parse and check their text, and provide typed values. Names,
defaults and meanings are Kafka's; the documentation of a setting states its deviations. Settings that only Odradek has
begin with `odradek.`. As in Kafka, the metadata log stores values as text.

- `topic.py`: each setting of a topic, declared once: it is an attribute of `LogConfig`, and also declares the broker
  setting that gives its default.
- `broker.py`: the other settings of the broker.
- `without_effect.py`: the settings of Kafka that do nothing here, of brokers and of topics.
- `setting.py`: the type of a declaration, and the parsing and checking of a value.
- `layers.py`: the effective value: given at the start, changed for all brokers, for this one, or a topic's own.
- `bounds.py`: numbers that are not settings.

Invariants: a setting is declared in one place; everything else (parsing, checks, DescribeConfigs, the page of all
settings) follows from the declaration. Every bound of a queue, buffer or cache is a setting and has its name here.
Imports nothing else of the project. The names below are for programs that use Odradek; inside the project, names are
imported from the file that declares them.
"""

from odradek.config.broker import BROKER_SETTINGS as BROKER_SETTINGS
from odradek.config.layers import BrokerConfig as BrokerConfig
from odradek.config.setting import InvalidSetting as InvalidSetting
from odradek.config.setting import Setting as Setting
from odradek.config.topic import TOPIC_SETTINGS as TOPIC_SETTINGS
from odradek.config.topic import LogConfig as LogConfig
