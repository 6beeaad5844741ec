"""Every knob: Kafka's property name, type, default, bounds, and what it does here.

Role: declare the settings of the broker and of topics, parse and check their text, and give the parts of the broker
typed values. Names, defaults and meanings are Kafka's, deviations are said in the setting's own sentence; settings that
only Odradek has begin with `odradek.`. Values stay text in the metadata log, as Kafka keeps them.

- `topic.py`: each setting of a topic, declared once: it is an attribute of `LogConfig`, and makes the broker's setting
  that gives its default.
- `broker.py`: the other settings of the broker.
- `without_effect.py`: the settings of Kafka that do nothing here, of brokers and of topics.
- `setting.py`: what a setting is, and how its text becomes a value.
- `layers.py`: which value is in force: from a file, changed for all brokers, for this one, or a topic's own.
- `bounds.py`: numbers that are no setting.

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
