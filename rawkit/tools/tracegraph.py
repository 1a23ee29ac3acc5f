"""The paths of a trace as one graph: for Graphviz, and drawn as SVG.

Nodes lie in layers, one for each hop, so that drawing needs no more than an order within the layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from html import escape as escape_html
from typing import Literal

from rawkit.tools.traceresult import TraceHop, TracePath

_NODE_HEIGHT, _LINE, _CHARACTER = 22, 15, 7.3  # pixels of text of 12
_GAP_X, _GAP_Y, _MARGIN = 24, 44, 16
_SWEEPS = 8
_FILLS = {"source": "#dbe9f6", "hop": "#ffffff", "silent": "#eeeeee", "target": "#d9f0d9", "end": "#f8dcd8"}


@dataclass(frozen=True, slots=True)
class GraphNode:
    """An address at a hop (0: this host), or a router that says nothing there (`address` None).

    `kind` is "source", "hop", "silent", "target", or "end" where a path ends before the target. `lines` is
    what to write on it.
    """

    name: str
    hop: int
    address: str | None
    kind: Literal["source", "hop", "silent", "target", "end"]
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GraphEdge:
    """A step of one or several flows, between two nodes by their names."""

    near: str
    far: str
    flows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TraceGraph:
    """All paths of a trace; nodes in the order of hops."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]

    def to_dot(self) -> str:
        """The graph in Graphviz' language."""
        lines = ["digraph trace {", "  node [shape=box, style=filled, fontname=monospace];"]
        for node in self.nodes:
            label = "\\n".join(map(_quoted, node.lines))
            lines.append(f'  "{_quoted(node.name)}" [label="{label}", fillcolor="{_FILLS[node.kind]}"];')
        for edge in self.edges:
            label = f' [label="{flow_list(edge.flows)}"]' if self._is_split else ""
            lines.append(f'  "{_quoted(edge.near)}" -> "{_quoted(edge.far)}"{label};')
        return "\n".join([*lines, "}", ""])

    @property
    def _is_split(self) -> bool:
        return len({edge.flows for edge in self.edges}) > 1

    def to_svg(self) -> str:
        """The graph drawn, this host at the top."""
        layers = self._layers()
        widest = max(len(layer) for layer in layers)
        wide = _GAP_X + _CHARACTER * max(len(line) for node in self.nodes for line in node.lines)
        width = 2 * _MARGIN + widest * wide + (widest - 1) * _GAP_X
        centre: dict[str, tuple[float, float, float]] = {}  # x, top, bottom
        boxes: list[str] = []
        top = float(_MARGIN)
        for layer in layers:
            tall = max(_NODE_HEIGHT + _LINE * (len(node.lines) - 1) for node in layer)
            span = len(layer) * wide + (len(layer) - 1) * _GAP_X
            for i, node in enumerate(layer):
                x = (width - span) / 2 + i * (wide + _GAP_X) + wide / 2
                centre[node.name] = x, top, top + tall
                boxes.append(_box(node, x, top, wide, tall))
            top += tall + _GAP_Y
        height = top - _GAP_Y + _MARGIN
        arrows = [self._arrow(edge, *centre[edge.near], *centre[edge.far]) for edge in self.edges]
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
                f'viewBox="0 0 {width:g} {height:g}" font-family="monospace" font-size="12">',
                '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
                'markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>',
                *arrows,
                *boxes,
                "</svg>",
                "",
            ]
        )

    def _layers(self) -> list[list[GraphNode]]:
        """The nodes of each hop, in an order in which few edges cross: by the mean place of their neighbours,
        swept down and up (Sugiyama and others, 1981).
        """
        layers = [
            [node for node in self.nodes if node.hop == hop]
            for hop in sorted({node.hop for node in self.nodes})
        ]
        for sweep in range(_SWEEPS):
            down = sweep % 2 == 0
            place = {node.name: float(i) for layer in layers for i, node in enumerate(layer)}
            for layer in layers if down else reversed(layers):
                means = {}
                for node in layer:
                    near = [
                        place[edge.near if down else edge.far]
                        for edge in self.edges
                        if (edge.far if down else edge.near) == node.name
                    ]
                    means[node.name] = sum(near) / len(near) if near else place[node.name]
                layer.sort(key=lambda node: means[node.name])
                place.update((node.name, float(i)) for i, node in enumerate(layer))
        return layers

    def _arrow(
        self, edge: GraphEdge, x1: float, _top: float, y1: float, x2: float, y2: float, _bottom: float
    ) -> str:
        line = (
            f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="#000" marker-end="url(#arrow)"/>'
        )
        if not self._is_split:
            return line
        text = _escape(flow_list(edge.flows))
        return f'{line}<text x="{(x1 + x2) / 2 + 6:g}" y="{(y1 + y2) / 2:g}" font-size="10">{text}</text>'


_escape = partial(escape_html, quote=False)


def _box(node: GraphNode, x: float, top: float, width: float, height: float) -> str:
    dash = ' stroke-dasharray="4 3"' if node.kind == "silent" else ""
    texts = "".join(
        f'<text x="{x:g}" y="{top + 15 + i * _LINE:g}" text-anchor="middle">{_escape(line)}</text>'
        for i, line in enumerate(node.lines)
    )
    return (
        f"<g><title>{_escape(node.name)}</title>"
        f'<rect x="{x - width / 2:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="4" '
        f'fill="{_FILLS[node.kind]}" stroke="#000"{dash}/>{texts}</g>'
    )


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def flow_list(flows: Sequence[int]) -> str:
    """Numbers as people write them: "flows 1-3, 7"."""
    runs: list[list[int]] = []
    for flow in flows:
        if runs and flow == runs[-1][1] + 1:
            runs[-1][1] = flow
        else:
            runs.append([flow, flow])
    ranges = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    return f"{'flow' if len(flows) == 1 else 'flows'} {ranges}"


def path_graph(source: str, paths: Sequence[TracePath], hops: Sequence[TraceHop]) -> TraceGraph:
    """The graph of some paths from `source`; `hops` say how long answers took, and what else is known."""
    known = {(hop.hop, node.address): node for hop in hops for node in hop.nodes}
    nodes = {source: GraphNode(source, 0, source, "source", (source,))}
    edges: dict[tuple[str, str], list[int]] = {}
    for path in paths:
        near = source
        for hop, address in enumerate(path.addresses, path.first_hop):
            # A silent router is the same for all that come to it from the same place.
            far = f"{hop}: {address}" if address is not None else f"{hop}: * after {near}"
            if far not in nodes:
                node = known.get((hop, address or ""))
                lines = [address or "*"]
                kind: Literal["hop", "silent", "target", "end"] = "silent"
                if node is not None:
                    kind = (
                        "end" if node.kind == "unreachable" else "target" if node.kind == "target" else "hop"
                    )
                    lines.append(f"{node.avg_ns / 1e6:.3f} ms")
                    lines += [f"MPLS {label.label}" for label in node.mpls]
                    lines += [f"MTU {node.mtu}"] if node.mtu is not None else []
                nodes[far] = GraphNode(far, hop, address, kind, tuple(lines))
            edges.setdefault((near, far), []).append(path.flow)
            near = far
    return TraceGraph(
        tuple(sorted(nodes.values(), key=lambda node: node.hop)),
        tuple(GraphEdge(near, far, tuple(flows)) for (near, far), flows in edges.items()),
    )
