/** Socket calls of the fake protocol (sockets/fake.ts): pr_usrreqs, send, recv and the options. */

import { EAGAIN, EINPROGRESS, EINVAL, EISCONN, EMSGSIZE, ENOPROTOOPT, ENOTCONN, EPIPE } from '../stack/kern/errno.js';
import { type Protosw, SOCK_SEQPACKET } from '../stack/kern/protosw.js';
import {
  MSG_EOR,
  MSG_NOTIFICATION,
  type RecvInfo,
  type SendInfo,
  type SockAddr,
  type Socket,
  type Usrreqs,
} from '../stack/kern/socket.js';
import { type AF_INET, type AF_INET6, IPPROTO_SCTP } from '../stack/netinet/in.js';
import * as api from '../stack/sctp/api.js';
import type { FakeHost } from './fake.js';
import { abort, type End, Pcb, remove } from './fake.state.js';

export function row(host: FakeHost, domain: typeof AF_INET | typeof AF_INET6, type: number): Protosw {
  return { domain, type, protocol: IPPROTO_SCTP, name: 'fake sctp', usrreqs: usrreqs(host, type === SOCK_SEQPACKET) };
}

const pcbOf = (so: Socket) => so.pcb as Pcb;

function usrreqs(host: FakeHost, many: boolean): Usrreqs {
  return {
    attach(so) {
      const pcb = new Pcb(host, so, many);
      so.pcb = pcb;
      host.pcbs.add(pcb);
      return 0;
    },
    close: so => closePcb(pcbOf(so)),
    bind: (so, addrs) => host.bind(pcbOf(so), addrs),
    listen(so, backlog) {
      const pcb = pcbOf(so);
      if (pcb.port === 0) host.bind(pcb, []);
      pcb.backlog = backlog;
      pcb.listening = backlog > 0;
      return 0;
    },
    connect(so, addrs) {
      const pcb = pcbOf(so);
      if (so.error !== 0) return -so.takeError();
      if (pcb.listening) return -EINVAL;
      if (pcb.ends.size > 0 && !many) return -EISCONN;
      const end = host.associate(pcb, addrs);
      return typeof end === 'number' ? end : -EINPROGRESS;
    },
    accept(so) {
      const pcb = pcbOf(so);
      if (!pcb.listening || many) return -EINVAL;
      return pcb.acceptq.shift() ?? -EAGAIN;
    },
    send: (so, data, off, len, to, info) => sendOn(pcbOf(so), data.slice(off, off + len), to, info),
    recv: (so, buf, off, len, info) => recvOn(pcbOf(so), buf, off, len, info),
    shutdown(so) {
      const pcb = pcbOf(so);
      const end = pcb.end(0);
      if (end === undefined || end.state === 'COOKIE_WAIT') return -ENOTCONN;
      pcb.shut = true;
      if (end.state === 'ESTABLISHED') end.state = 'SHUTDOWN_PENDING';
      return 0;
    },
    sockaddr: so => (pcbOf(so).port === 0 ? -EINVAL : host.names(pcbOf(so))[0]!),
    peeraddr(so) {
      const end = pcbOf(so).end(0);
      return end === undefined || end.state === 'COOKIE_WAIT' ? -ENOTCONN : end.remote[0]!;
    },
    getopt: (so, _level, name, arg) => getOption(pcbOf(so), name, typeof arg === 'number' ? arg : 0),
    setopt: (so, level, name, value) => setOption(pcbOf(so), level, name, value),
    readable(so) {
      const pcb = pcbOf(so);
      return so.error !== 0 || pcb.rcvq.length > 0 || pcb.acceptq.length > 0 || pcb.eof;
    },
    writable(so) {
      const pcb = pcbOf(so);
      return so.error !== 0 || pcb.eof || (spaceOf(pcb) > 0 && pcb.end(0)?.state !== 'COOKIE_WAIT');
    },
    space: so => spaceOf(pcbOf(so)),
  };
}

/** One send buffer per association; the least room of all is what a one-to-many socket reports. */
function spaceOf(pcb: Pcb): number {
  let most = 0;
  for (const e of pcb.ends.values()) most = Math.max(most, e.sndBytes);
  return pcb.sndbuf - most;
}

function closePcb(pcb: Pcb): number {
  pcb.host.pcbs.delete(pcb);
  for (const so of pcb.acceptq.splice(0)) {
    (so.pcb as Pcb).linger0 = true;
    so.close();
  }
  for (const end of [...pcb.ends.values()]) {
    if (pcb.linger0) abort(end, 'the peer closed its socket with a linger time of zero');
    else if (end.state === 'ESTABLISHED') end.state = 'SHUTDOWN_PENDING';
    else if (end.state === 'COOKIE_WAIT') remove(end);
    end.pcb = undefined;
  }
  return 0;
}

function sendOn(pcb: Pcb, data: Uint8Array, to: SockAddr | undefined, info: SendInfo | undefined): number {
  if (pcb.so.error !== 0) return -pcb.so.takeError();
  let end = pcb.end(info?.assocId ?? 0);
  if (pcb.many && to !== undefined) {
    for (const e of pcb.ends.values()) if (e.remote.some(r => r.port === to.port && r.addr.equals(to.addr))) end = e;
    if (end === undefined) {
      const made = pcb.host.associate(pcb, [to]);
      if (typeof made === 'number') return made;
      end = made;
    }
  }
  if (end === undefined) return pcb.shut || pcb.eof ? -EPIPE : -ENOTCONN;
  if (end.state !== 'ESTABLISHED' && !(pcb.many && end.state === 'COOKIE_WAIT')) {
    return end.state === 'COOKIE_WAIT' ? -EAGAIN : -EPIPE;
  }
  const flags = info?.flags ?? 0;
  const sid = info?.sid ?? 0;
  if ((flags & api.SCTP_EOF) !== 0 && data.length === 0) {
    end.state = 'SHUTDOWN_PENDING';
    return 0;
  }
  if (data.length === 0 || sid >= end.outStreams) return -EINVAL;
  if (data.length > pcb.sndbuf) return -EMSGSIZE;
  if (end.sndBytes + data.length > pcb.sndbuf) {
    pcb.blocked = true;
    return -EAGAIN;
  }
  const ssn = end.ssn[sid] ?? 0;
  if ((flags & api.SCTP_UNORDERED) === 0) end.ssn[sid] = (ssn + 1) & 0xffff;
  const { ppid = 0, context = 0 } = info ?? {};
  end.sndq.push({
    data,
    off: 0,
    sid,
    ssn,
    tsn: end.tsn++,
    ppid,
    flags,
    context,
    assoc: end,
    eor: true,
    notification: undefined,
  });
  end.sndBytes += data.length;
  end.dryTold = false;
  return data.length;
}

function recvOn(pcb: Pcb, buf: Uint8Array, off: number, len: number, info: RecvInfo): number {
  if (pcb.so.error !== 0) return -pcb.so.takeError();
  const item = pcb.rcvq[0];
  if (item === undefined) return pcb.eof ? 0 : pcb.ends.size > 0 || pcb.many ? -EAGAIN : -ENOTCONN;
  const n = Math.min(len, item.data.length - item.off);
  buf.set(item.data.subarray(item.off, item.off + n), off);
  item.off += n;
  const whole = item.off === item.data.length;
  if (whole) pcb.rcvq.shift();
  info.msgFlags = (whole && item.eor ? MSG_EOR : 0) | (item.notification === undefined ? 0 : MSG_NOTIFICATION);
  info.notification = item.notification;
  info.sid = item.sid;
  info.ssn = item.ssn;
  info.tsn = item.tsn;
  info.ppid = item.ppid;
  info.flags = item.flags & api.SCTP_UNORDERED;
  info.context = item.context;
  info.assocId = item.assoc.id;
  info.from = item.assoc.remote[0];
  if (item.notification === undefined) {
    pcb.rcvBytes -= n;
    pcb.host.net.kick(); // the window opens
  }
  return n;
}

function pathsOf(end: End): api.PathInfo[] {
  return end.remote.map((address, i) => ({
    assocId: end.id,
    address,
    state: end.down.has(address.addr.toString()) ? 'inactive' : 'active',
    primary: i === end.primary,
    cwnd: 4380,
    ssthresh: 65536,
    flight: 0,
    srtt: 1,
    rto: 1000,
    mtu: 1500,
    chunkRoom: 1468,
    errors: 0,
    source: '',
    why: 'in memory',
    lastHeartbeatAck: 0,
    encapsPort: 0,
  }));
}

function getOption(pcb: Pcb, name: number, assocId: number): unknown {
  const end = pcb.end(assocId);
  switch (name) {
    case api.SO_SNDBUF:
      return pcb.sndbuf;
    case api.SO_RCVBUF:
      return pcb.rcvbuf;
    case api.SCTP_GET_ASSOC_ID_LIST:
      return [...pcb.ends.keys()];
    case api.SCTP_GET_LOCAL_ADDRESSES:
      return pcb.port === 0 ? [] : pcb.host.names(pcb);
    case api.SCTP_GET_PEER_ADDRESSES:
      return end === undefined ? -ENOTCONN : end.remote;
    case api.SCTP_GET_PATHS:
      return end === undefined ? -ENOTCONN : pathsOf(end);
    case api.SCTP_STATUS:
      return end === undefined ? -ENOTCONN : statusOf(pcb, end);
    default:
      return pcb.opts.has(name) ? pcb.opts.get(name) : -ENOPROTOOPT;
  }
}

function statusOf(pcb: Pcb, end: End): api.AssocStatus {
  const peer = end.peer?.pcb;
  return {
    assocId: end.id,
    state: end.state,
    rwnd: peer === undefined ? 0 : peer.rcvbuf - peer.rcvBytes,
    unackdata: end.sndq.length,
    penddata: pcb.rcvBytes,
    instrms: end.inStreams,
    outstrms: end.outStreams,
    fragmentationPoint: 1452,
    primary: pathsOf(end)[end.primary],
  };
}

function setOption(pcb: Pcb, level: number, name: number, value: unknown): number {
  const v = value as never;
  if (level === api.SOL_SOCKET && name === api.SO_LINGER) {
    const { onoff, linger } = v as { onoff: boolean; linger: number };
    pcb.linger0 = onoff && linger === 0;
    return 0;
  }
  switch (name) {
    case api.SO_SNDBUF:
      if (v <= 0) return -EINVAL;
      pcb.sndbuf = v;
      return 0;
    case api.SO_RCVBUF:
      pcb.rcvbuf = v;
      return 0;
    case api.SCTP_EVENT: {
      const { type, on } = v as { type: string; on: boolean };
      if (on) pcb.events.add(type);
      else pcb.events.delete(type);
      return 0;
    }
    case api.SCTP_INITMSG: {
      for (const [k, n] of Object.entries(value as api.InitMsg)) if (n !== 0) pcb.init = { ...pcb.init, [k]: n };
      return 0;
    }
    case api.SCTP_PRIMARY_ADDR: {
      const { assocId, address } = v as { assocId: number; address: SockAddr };
      const end = pcb.end(assocId);
      const i = end?.remote.findIndex(r => r.addr.equals(address.addr)) ?? -1;
      if (end === undefined || i < 0) return -EINVAL;
      end.primary = i;
      return 0;
    }
    case api.SCTP_ABORT_ASSOC: {
      const { assocId, reason } = v as { assocId: number; reason: string };
      const end = pcb.end(assocId);
      if (end === undefined) return -ENOTCONN;
      abort(end, `the peer aborted the association: ${reason}`);
      return 0;
    }
    case api.SCTP_NODELAY:
    case api.SCTP_PEER_ADDR_PARAMS:
    case api.SCTP_REMOTE_UDP_ENCAPS_PORT:
      pcb.opts.set(name, value);
      return 0;
    default:
      return -ENOPROTOOPT;
  }
}
