"""The user's own configuration of the members, in XML: what it says, and what a run must add to it.

It stays as it is, except for what a member needs to run here (its address, the other members, no other network) and
for what makes it tell its figures. Every change has a line. Element and property names are from the reference manual
of Hazelcast 5.7.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element, SubElement

from microq.config import Address, Config, kebab
from microq.errors import ConfigError
from microq.fleet import map_role, name_of

SPACE = "http://www.hazelcast.com/schema/config"
"""The namespace of the elements."""

UNBOUNDED = 2**31 - 1
"""The bound of a queue without one; Hazelcast writes 0."""

PARTITIONS, SILENCE, INDETERMINATE = (
    "hazelcast.partition.count",
    "hazelcast.max.no.heartbeat.seconds",
    "hazelcast.operation.fail.on.indeterminate.state",
)

DEFAULTS = {"backup-count": 1, "max-size": 0, PARTITIONS: 271, SILENCE: 60}
"""What Hazelcast takes for what a file does not say."""


class Document:
    """A configuration file of the members. Raises `ConfigError` if it cannot be one."""

    def __init__(self, file: Path) -> None:
        self._file = file
        ET.register_namespace("", SPACE)
        try:
            self._root = ET.fromstring(file.read_text(encoding="utf-8"))  # noqa: S314 - the user's own file
        except (OSError, UnicodeDecodeError) as error:
            raise self._wrong(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
        except ET.ParseError as error:
            raise self._wrong(f"is not XML: {error}; a configuration in YAML must be written in XML") from error
        self._space = f"{{{SPACE}}}" if self._root.tag.startswith("{") else ""
        if self._root.tag != f"{self._space}hazelcast":
            raise self._wrong(f"must have the root <hazelcast>, not <{self._root.tag.rpartition('}')[2]}>")
        network = self._find(self._root, "advanced-network")
        if network is not None and network.get("enabled") != "false":
            raise self._wrong("has <advanced-network>, which microq cannot complete; use <network>")

    def _wrong(self, problem: str) -> ConfigError:
        return ConfigError(str(self._file), "", problem)

    # -- what it says --------------------------------------------------------------------------------------------------

    @property
    def cluster(self) -> str:
        """The name of the cluster."""
        return self._text(self._root, "cluster-name") or "dev"

    def number(self, name: str) -> int:
        """Return the value of a property, as a whole number; raises `ConfigError`."""
        return self._whole(name, self.properties.get(name) or str(DEFAULTS[name]))

    @property
    def properties(self) -> dict[str, str]:
        """The properties by name."""
        listed = self._all(self._root, "properties", "property")
        return {each.get("name", ""): (each.text or each.get("value") or "").strip() for each in listed}

    def of_queue(self, name: str, key: str) -> int:
        """Return a number of the configuration of a queue; raises `ConfigError`."""
        queue = self._queue(name)
        given = "" if queue is None else self._text(queue, key)
        return self._whole(key, given or str(DEFAULTS[key]))

    def _queue(self, name: str) -> Element | None:
        """Return the element that configures a queue: its own, the closest with a wildcard, or the default."""
        listed = {each.get("name", ""): each for each in self._all(self._root, "queue")}
        fitting = [each for each in listed if fnmatch.fnmatchcase(name, each)]
        best = max(fitting, key=len, default="default")
        return listed.get(name, listed.get(best))

    def _whole(self, name: str, text: str) -> int:
        if not (text.isascii() and text.isdigit()):
            raise self._wrong(f"{name} must be a whole number, not {text!r}")
        return int(text)

    def _find(self, parent: Element, name: str) -> Element | None:
        return parent.find(f"{self._space}{name}")

    def _text(self, parent: Element, name: str) -> str:
        found = self._find(parent, name)
        return "" if found is None else (found.text or "").strip()

    def _all(self, parent: Element, *path: str) -> list[Element]:
        return parent.findall("/".join(f"{self._space}{name}" for name in path))

    # -- what a run must add -------------------------------------------------------------------------------------------

    def complete(
        self, config: Config, name: str, door: Address, public: Address | None, join: Sequence[Address]
    ) -> list[str]:
        """Complete it for one member, and return a line for each change.

        The member listens at `door`, tells others the address `public`, if it is another one, and looks for the members
        `join`.
        """
        lines = [*self._set(self._root, "instance-name", name)]
        lines += self._set(self._root, "cluster-name", config.hazelcast.hazelcast_cluster_name)
        lines += self._complete_network(door, public, join)
        lines += self._complete_properties(config, door)
        lines += self._complete_queue(config)
        return [*lines, "the Jolokia agent, on 127.0.0.1, tells its figures"]

    def _child(self, parent: Element, name: str) -> Element:
        found = self._find(parent, name)
        return SubElement(parent, f"{self._space}{name}") if found is None else found

    def _set(self, parent: Element, name: str, value: str) -> Iterator[str]:
        before = self._text(parent, name)
        self._child(parent, name).text = value
        if before != value:
            yield f"{name} = {value}{f' (it was {before})' if before else ''}"

    def _complete_network(self, door: Address, public: Address | None, join: Sequence[Address]) -> Iterator[str]:
        network = self._child(self._root, "network")
        yield from self._set(network, "port", str(door.port))
        self._child(network, "port").attrib.update({"auto-increment": "false", "port-count": "1"})
        for name in ("public-address", "interfaces", "join"):
            found = self._find(network, name)
            if found is not None:
                network.remove(found)
                yield f"<{name}> of the file is not used"
        if public:
            yield from self._set(network, "public-address", str(public))
        joining = SubElement(network, f"{self._space}join")
        for name in ("auto-detection", "multicast"):
            SubElement(joining, f"{self._space}{name}", {"enabled": "false"})
        listed = SubElement(joining, f"{self._space}tcp-ip", {"enabled": "true"})
        for address in join:
            SubElement(listed, f"{self._space}member").text = str(address)
        yield f"join over TCP: {', '.join(map(str, join))}; no multicast"

    def _complete_properties(self, config: Config, door: Address) -> Iterator[str]:
        wanted = {
            "hazelcast.socket.bind.any": "false",
            "hazelcast.local.localAddress": door.host,
            "hazelcast.phone.home.enabled": "false",
            "hazelcast.logging.type": "jdk",
            "hazelcast.jmx": "true",
            "hazelcast.jmx.update.interval.seconds": "0",
            "hazelcast.wait.seconds.before.join": "0",
            PARTITIONS: str(config.hazelcast.partition_count),
            SILENCE: str(config.hazelcast.heartbeat_timeout),
        }
        before = {**{name: str(DEFAULTS[name]) for name in (PARTITIONS, SILENCE)}, **self.properties}
        properties = self._child(self._root, "properties")
        for each in self._all(properties, "property"):
            if each.get("name") in wanted:
                properties.remove(each)
        for name, value in wanted.items():
            SubElement(properties, f"{self._space}property", {"name": name}).text = value
            if before.get(name, "") != value:
                yield f"{name} = {value}{f' (it was {before[name]})' if name in before else ''}"

    def _complete_queue(self, config: Config) -> Iterator[str]:
        wanted = {"backup-count": config.queue.backup_count, "max-size": config.queue.max_size % UNBOUNDED}
        changed = {key: value for key, value in wanted.items() if self.of_queue(config.queue.name, key) != value}
        if not changed:
            return
        queue = next((each for each in self._all(self._root, "queue") if each.get("name") == config.queue.name), None)
        if queue is None:
            queue = SubElement(self._root, f"{self._space}queue", {"name": config.queue.name})
            changed = wanted
        for key, value in changed.items():
            yield from (f"{config.queue.name}: {line}" for line in self._set(queue, key, str(value)))

    def text(self) -> str:
        """Return it as XML."""
        return ET.tostring(self._root, encoding="unicode", xml_declaration=True)


def additions(config: Config) -> list[str]:
    """Return a line for each thing that is added to the file for the lowest member, or that it leaves open."""
    document, listed = Document(Path(config.hazelcast.config)), sorted(config.hazelcast.hazelcast_clients)
    open_still = document.properties.get(INDETERMINATE) != "true"
    lines = document.complete(config, name_of(config, map_role(config), listed[0]), listed[0], None, listed)
    if open_still:
        lines.append(f"not added: {INDETERMINATE} = true; without it a put whose backup is missing counts as done")
    return lines


def adopt(config: Config, given: Collection[str]) -> Config:
    """Return the configuration with the values of the file, except those of the keys `given`, each `table.key`."""
    document = Document(Path(config.hazelcast.config))
    queue = config.queue
    of_members = {
        "hazelcast_cluster_name": document.cluster,
        "partition_count": document.number(PARTITIONS),
        "heartbeat_timeout": document.number(SILENCE),
    }
    of_queue = {
        "backup_count": document.of_queue(queue.name, "backup-count"),
        "max_size": document.of_queue(queue.name, "max-size") or UNBOUNDED,
    }
    members = config.with_settings("hazelcast", **_kept("hazelcast", of_members, given))
    return replace(members, queue=replace(queue, **_kept("queue", of_queue, given)))


def _kept(table: str, rows: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in rows.items() if f"{table}.{kebab(name)}" not in given}
