/**
 * What the dialect adds to the structs of stack/sctp/layout.ts: names that scripts have for fields called otherwise in C,
 * association ids that may be left out, and the struct that a literal or a notification means (facts parts 5.2 and 5.3).
 */

import { LAYOUTS, type Layout } from '../stack/sctp/layout.js';
import { notificationRow } from '../stack/sctp/notifications.js';

const ALIASES: ReadonlyMap<string, string> = new Map([
  ['onoff', 'l_onoff'],
  ['linger', 'l_linger'],
  ['shmac_number_idents', 'shmac_number_of_idents'],
  ['sreinfo_next_flags', 'serinfo_next_flags'],
  ['sreinfo_next_stream', 'serinfo_next_stream'],
  ['sreinfo_next_aid', 'serinfo_next_aid'],
  ['sreinfo_next_length', 'serinfo_next_length'],
  ['sreinfo_next_ppid', 'serinfo_next_ppid'],
  ['sauth_assoc_id', 'auth_assoc_id'],
  ['ssp_address', 'ssp_addr'],
  ['sspp_address', 'sspp_addr'],
  ['ssb_adaption_ind', 'ssb_adaptation_ind'],
  ['sai_adaption_ind', 'sai_adaptation_ind'],
  ['sctp_adaption_layer_event', 'sctp_adaptation_layer_event'],
]);
/** C's name of a field as a script writes it. */
export const fieldName = (written: string): string => ALIASES.get(written) ?? written;

/** Fields that hold an association id: 0 when left out, and not compared then. */
export const isAssocId = (field: string): boolean => /(^|_)assoc_id$|_aid$/.test(field);

/** The struct of a notification's bytes, by its first field; undefined: too short, or of no type. */
export function notificationLayout(bytes: Uint8Array): Layout | undefined {
  const type = bytes.length < 2 ? 0 : bytes[0]! | (bytes[1]! << 8);
  const layout = notificationRow(type)?.layout;
  return layout !== undefined && bytes.length >= layout.size ? layout : undefined;
}

/** The struct that has all these fields, for a literal that is given where it means nothing. */
export const layoutWith = (fields: readonly string[]): Layout | undefined =>
  [...LAYOUTS.values()].find(l => fields.every(f => l.fields.some(x => x.name === fieldName(f))));
