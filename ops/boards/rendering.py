"""A board as Grafana's JSON (schema version 39: Grafana 10.4 and later), core panels only."""

from collections.abc import Iterator
from typing import Any

from ops.boards.panels import Board, Panel, Query, Row

COLUMNS = 24
TAG = "sluice"  # the boards find one another by it
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
Json = dict[str, Any]

_LINES = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": False}
_LEGEND = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
_REDUCED = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: dict[str, Json] = {
    "timeseries": {"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    "stat": {
        **{"reduceOptions": _REDUCED, "colorMode": "value", "graphMode": "area", "textMode": "auto"},
        **{"justifyMode": "auto", "orientation": "auto", "wideLayout": True, "showPercentChange": False},
        "percentChangeColorMode": "standard",
    },
    "bargauge": {
        **{"reduceOptions": _REDUCED, "displayMode": "basic", "orientation": "horizontal", "showUnfilled": True},
        **{"minVizWidth": 8, "minVizHeight": 16, "maxVizHeight": 300, "valueMode": "color", "namePlacement": "auto"},
        **{"sizing": "auto", "legend": {**_LEGEND, "showLegend": False}},
    },
    "state-timeline": {
        **{"mergeValues": True, "showValue": "never", "alignValue": "left", "rowHeight": 0.9},
        **{"legend": _LEGEND, "tooltip": {"mode": "single", "sort": "none"}},
    },
    "table": {"showHeader": True, "cellHeight": "sm", "frameIndex": 0},
}


def dashboard(board: Board) -> Json:
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.text,
        "tags": [TAG],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "timezone": "",
        "time": {"from": "now-3h", "to": "now"},
        "links": [_links()],
        "templating": {"list": list(_variables(board))},
        "annotations": {"list": list(_annotations())},
        "panels": list(_panels(board)),
    }


def _links() -> Json:
    return {
        **{"type": "dashboards", "title": "Boards", "tags": [TAG], "asDropdown": False, "keepTime": True},
        **{"includeVars": False, "targetBlank": False, "icon": "external link", "tooltip": "", "url": ""},
    }


def _variables(board: Board) -> Iterator[Json]:
    yield {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1}
    if board.service:
        query = f'label_values(up{{service="{board.service}"}}, instance)'
        yield {
            **{"name": "instance", "label": "Instance", "type": "query", "datasource": SOURCE, "query": query},
            **{"refresh": 2, "sort": 1, "multi": True, "includeAll": True, "allValue": ".+"},
            "current": {"text": ["All"], "value": ["$__all"], "selected": True},
        }


def _annotations() -> Iterator[Json]:
    daemons = 'service=~"ingester|backfiller|indexer"'
    started = f"changes(process_start_time_seconds{{{daemons}}}[2m]) > 0"
    critical = 'ALERTS{alertstate="firing",severity="critical"}'
    for name, expr, title, colour in (
        ("Restarts", started, "{{service}} {{instance}} started", "blue"),
        ("Critical alerts", critical, "{{alertname}}", "red"),
    ):
        yield {
            **{"name": name, "datasource": SOURCE, "enable": True, "hide": False, "iconColor": colour},
            **{"expr": expr, "titleFormat": title, "step": "60s"},
        }


def _panels(board: Board) -> Iterator[Json]:
    number, top = 0, 0
    for row in board.rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": _place(0, top, 24, 1),
        }
        places, bottom = _laid_out(row, top + 1)
        for panel, place in zip(row.panels, places, strict=True):
            number += 1
            yield _panel(panel, number, place)
        top = bottom


def _laid_out(row: Row, top: int) -> tuple[list[Json], int]:
    """Places from left to right, in lines as high as their highest panel; and where the next row begins."""
    places: list[Json] = []
    left = height = 0
    for panel in row.panels:
        if left + panel.width > COLUMNS:
            left, top, height = 0, top + height, 0
        places.append(_place(left, top, panel.width, panel.height))
        left, height = left + panel.width, max(height, panel.height)
    return places, top + height


def _place(x: int, y: int, w: int, h: int) -> Json:
    return {"x": x, "y": y, "w": w, "h": h}


def _panel(panel: Panel, number: int, place: Json) -> Json:
    table = panel.kind == "table"
    rendered: Json = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": [_target(query, "ABCDEFGH"[at], table=table) for at, query in enumerate(panel.queries)],
    }
    if table:  # a column for each label, and neither the time nor the value, which is always 1
        rendered["transformations"] = [{"id": "organize", "options": {"excludeByName": {"Time": True, "Value": True}}}]
    return rendered


def _defaults(panel: Panel) -> Json:
    steps = [{"value": value, "color": colour} for value, colour in panel.steps]
    defaults: Json = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}, "mappings": []}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        defaults |= {"min": 0, "custom": {**_LINES, "stacking": stacking}, "color": {"mode": "palette-classic"}}
    else:
        defaults["color"] = {"mode": "thresholds"}
    if panel.kind == "bargauge" and panel.unit == "percentunit":
        defaults |= {"min": 0, "max": 1}
    return defaults


def _target(query: Query, letter: str, *, table: bool) -> Json:
    asked = {"instant": True, "range": False, "format": "table"} if table else {"instant": False, "range": True}
    return {"refId": letter, "expr": query.expr, "legendFormat": query.legend, "datasource": SOURCE, **asked}
