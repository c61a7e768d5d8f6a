/**
 * Notifications as bytes (RFC 6458 §6.1, FreeBSD's structs): rows of number, struct and how its fields come from the object
 * of api.ts. recv copies these bytes; a program in TypeScript reads the object.
 */

import type { SockAddr } from '../kern/socket.js';
import type { EventName } from './api.js';
import { type CRecord, type CValue, encodeStruct, type Layout, layoutOf, recordSize, swap32 } from './layout.js';
import type { Extension } from './optionrows.js';

type Obj = Record<string, unknown>;
const cval = (v: unknown): CValue => (typeof v === 'boolean' ? Number(v) : (v as CValue));

export interface NotificationRow {
  /** What SCTP_EVENT calls it. */
  readonly event: EventName;
  /** Its C name, and se_type = the struct's first field. */
  readonly name: string;
  readonly number: number;
  /** Prefix of the fields type, flags, length. */
  readonly prefix: string;
  readonly layout: Layout;
  /** The extension that sends it; undefined: it is there. 'never': FreeBSD has the number but never sends it. */
  readonly extension?: Extension | 'never';
  /** Fields other than type, flags and length; flags where they are not 0. */
  fields(n: Obj): CRecord;
}

const CHANGES: Readonly<Record<string, number>> = {
  'comm-up': 1,
  'comm-lost': 2,
  restart: 3,
  'shutdown-comp': 4,
  'cant-start': 5,
};
const ADDRESS_CHANGES: Readonly<Record<string, number>> = {
  available: 1,
  unreachable: 2,
  removed: 3,
  added: 4,
  'made-prim': 5,
  confirmed: 6,
};
const DATA_UNSENT = 1;
const DATA_SENT = 2;

const row = (
  event: EventName,
  name: string,
  number: number,
  prefix: string,
  layout: string,
  fields: (n: Obj) => CRecord,
  extension?: Extension | 'never',
): NotificationRow => ({
  event,
  name,
  number,
  prefix,
  layout: layoutOf(layout),
  fields,
  ...(extension === undefined ? {} : { extension }),
});

export const NOTIFICATIONS: readonly NotificationRow[] = [
  row('assoc-change', 'SCTP_ASSOC_CHANGE', 1, 'sac', 'sctp_assoc_change', n => ({
    sac_state: CHANGES[String(n.state)] ?? 0,
    sac_error: cval(n.causeCode), // RFC 6458 §6.1.1: the protocol's error code, not errno
    sac_outbound_streams: cval(n.outStreams),
    sac_inbound_streams: cval(n.inStreams),
    sac_assoc_id: cval(n.assocId),
    sac_info: cval(n.features ?? n.abort),
  })),
  row('peer-addr-change', 'SCTP_PEER_ADDR_CHANGE', 2, 'spc', 'sctp_paddr_change', n => ({
    spc_aaddr: n.address as SockAddr,
    spc_state: ADDRESS_CHANGES[String(n.state)] ?? 0,
    spc_assoc_id: cval(n.assocId),
  })),
  row('remote-error', 'SCTP_REMOTE_ERROR', 3, 'sre', 'sctp_remote_error', n => ({
    sre_error: swap32(Number(n.cause ?? 0)) >>> 16, // RFC 6458 §6.1.3: in network byte order
    sre_assoc_id: cval(n.assocId),
    sre_data: cval(n.data),
  })),
  row('send-failed-deprecated', 'SCTP_SEND_FAILED', 4, 'ssf', 'sctp_send_failed', n => ({
    ssf_flags: n.sent === true ? DATA_SENT : DATA_UNSENT,
    ssf_error: cval(n.error),
    ssf_info: {
      sinfo_stream: cval(n.sid),
      sinfo_flags: cval(n.flags),
      sinfo_ppid: swap32(Number(n.ppid ?? 0)),
      sinfo_context: cval(n.context),
      sinfo_assoc_id: cval(n.assocId),
    },
    ssf_assoc_id: cval(n.assocId),
    ssf_data: cval(n.data),
  })),
  row('send-failed', 'SCTP_SEND_FAILED_EVENT', 0xe, 'ssfe', 'sctp_send_failed_event', n => ({
    ssfe_flags: n.sent === true ? DATA_SENT : DATA_UNSENT,
    ssfe_error: cval(n.error),
    ssfe_info: {
      snd_sid: cval(n.sid),
      snd_flags: cval(n.flags),
      snd_ppid: swap32(Number(n.ppid ?? 0)),
      snd_context: cval(n.context),
      snd_assoc_id: cval(n.assocId),
    },
    ssfe_assoc_id: cval(n.assocId),
    ssfe_data: cval(n.data),
  })),
  row('shutdown', 'SCTP_SHUTDOWN_EVENT', 5, 'sse', 'sctp_shutdown_event', n => ({ sse_assoc_id: cval(n.assocId) })),
  row(
    'adaptation-indication',
    'SCTP_ADAPTATION_INDICATION',
    6,
    'sai',
    'sctp_adaptation_event',
    n => ({ sai_adaptation_ind: cval(n.indication), sai_assoc_id: cval(n.assocId) }),
    'asconf',
  ),
  row('partial-delivery', 'SCTP_PARTIAL_DELIVERY_EVENT', 7, 'pdapi', 'sctp_pdapi_event', n => ({
    pdapi_indication: cval(n.indication ?? 1),
    pdapi_stream: cval(n.sid),
    pdapi_seq: cval(n.ssn),
    pdapi_assoc_id: cval(n.assocId),
  })),
  row(
    'authentication',
    'SCTP_AUTHENTICATION_EVENT',
    8,
    'auth',
    'sctp_authkey_event',
    n => ({
      auth_keynumber: cval(n.keyNumber),
      auth_altkeynumber: cval(n.altKeyNumber),
      auth_indication: cval(n.indication),
      auth_assoc_id: cval(n.assocId),
    }),
    'auth',
  ),
  row(
    'stream-reset',
    'SCTP_STREAM_RESET_EVENT',
    9,
    'strreset',
    'sctp_stream_reset_event',
    n => ({
      strreset_flags: cval(n.flags),
      strreset_assoc_id: cval(n.assocId),
      strreset_stream_list: cval(n.streams),
    }),
    'reconfig',
  ),
  row('sender-dry', 'SCTP_SENDER_DRY_EVENT', 0xa, 'sender_dry', 'sctp_sender_dry_event', n => ({
    sender_dry_assoc_id: cval(n.assocId),
  })),
  row(
    'notifications-stopped',
    'SCTP_NOTIFICATIONS_STOPPED_EVENT',
    0xb,
    'sn',
    'sctp_notifications_stopped_event',
    n => ({ sn_assoc_id: cval(n.assocId) }),
    'never',
  ),
  row(
    'assoc-reset',
    'SCTP_ASSOC_RESET_EVENT',
    0xc,
    'assocreset',
    'sctp_assoc_reset_event',
    n => ({
      assocreset_flags: cval(n.flags),
      assocreset_assoc_id: cval(n.assocId),
      assocreset_local_tsn: cval(n.localTsn),
      assocreset_remote_tsn: cval(n.remoteTsn),
    }),
    'reconfig',
  ),
  row(
    'stream-change',
    'SCTP_STREAM_CHANGE_EVENT',
    0xd,
    'strchange',
    'sctp_stream_change_event',
    n => ({
      strchange_flags: cval(n.flags),
      strchange_assoc_id: cval(n.assocId),
      strchange_instrms: cval(n.inStreams),
      strchange_outstrms: cval(n.outStreams),
    }),
    'reconfig',
  ),
];

const byEvent = new Map<string, NotificationRow>(NOTIFICATIONS.map(r => [r.event, r]));
const byNumber = new Map(NOTIFICATIONS.map(r => [r.number, r]));

/** The row of an event's name, or of se_type. */
export const notificationRow = (event: string | number): NotificationRow | undefined =>
  typeof event === 'number' ? byNumber.get(event) : byEvent.get(event);

/** The bytes that a read of a notification gives. Throws TypeError for a type that has no struct. */
export function encodeNotification(n: { readonly type: string; readonly deprecated?: boolean }): Uint8Array {
  const r = byEvent.get(n.deprecated === true ? `${n.type}-deprecated` : n.type);
  if (r === undefined) throw new TypeError(`no struct for a notification ${n.type}`);
  const record: CRecord = { ...r.fields(n as unknown as Obj), [`${r.prefix}_type`]: r.number };
  record[`${r.prefix}_length`] = recordSize(r.layout, record);
  return encodeStruct(r.layout, record);
}
