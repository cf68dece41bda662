// The dashboard as it may be written: Grafana's schema, with what it leaves open closed. An enum is written as its
// value, a panel is of a kind that is known here with the options of that kind, and each says what it shows.

import type { Dashboard, DataSourceRef, FieldConfig, FieldConfigSource, Panel, RowPanel } from '@grafana/schema';
import type * as bargauge from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

/** A query to Prometheus. */
interface Target {
  datasource: DataSourceRef;
  editorMode: 'code';
  expr: string;
  instant: boolean;
  legendFormat: string;
  range: boolean;
  refId: string;
}

/** A panel of one kind. Everything that a person reads is there: title, description, unit. */
type Drawn<Kind extends string, Options, Custom = never> = Omit<
  Panel,
  'description' | 'fieldConfig' | 'gridPos' | 'options' | 'targets' | 'title' | 'type'
> &
  Required<Pick<Panel, 'description' | 'gridPos' | 'title'>> & {
    fieldConfig: Omit<FieldConfigSource, 'defaults'> & {
      defaults: Omit<FieldConfig, 'custom' | 'unit'> & { custom?: Custom; unit: string };
    };
    options: Options;
    targets: Target[];
    type: Kind;
  };

type Known =
  | RowPanel
  | Drawn<'bargauge', bargauge.Options>
  | Drawn<'stat', stat.Options>
  | Drawn<'timeseries', timeseries.Options, timeseries.FieldConfig>;

/** `T` as JSON has it: the members of string enums are their values. */
type Written<T> = T extends string
  ? `${T}`
  : T extends (infer Element)[]
    ? Written<Element>[]
    : T extends object
      ? { [Key in keyof T]: Written<T[Key]> }
      : T;

export type Shipped = Written<Omit<Dashboard, 'panels'> & { panels: Known[] }>;
