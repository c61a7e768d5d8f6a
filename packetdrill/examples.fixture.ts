/** Scripts for the tests of the language: whole exchanges, and one that has every form once. */

export const HANDSHAKE = `// Server-side handshake on a non-blocking listener.
--tolerance_usecs=15000

 0.0    socket(..., SOCK_STREAM, IPPROTO_SCTP) = 5
+0      bind(5, ..., ...) = 0
+0      listen(5, 4) = 0
+0      fcntl(5, F_GETFL) = 0x2 (flags O_RDWR)
+0      fcntl(5, F_SETFL, O_RDWR|O_NONBLOCK) = 0
+0      accept(5, ..., ...) = -1 EWOULDBLOCK (it's empty - still, isn't it?)

+0.020  < sctp: INIT[flgs=0, tag=7301, a_rwnd=65536, os=3, is=7, tsn=900,
                     SUPPORTED_ADDRESS_TYPES[types=[IPv4]]]
+0      > sctp: INIT_ACK[flgs=0, tag=40, a_rwnd=..., os=..., is=..., tsn=5000, ...]
// Nothing may be accepted before the cookie has come back.
+0.010  accept(5, ..., ...) = -1 EWOULDBLOCK (queue still empty)
+0.005  < sctp: COOKIE_ECHO[flgs=0, len=..., val=...]
+0      > sctp: COOKIE_ACK[flgs=0]
+0      accept(5, ..., ...) = 8
+0      close(5) = 0
`;

export const DATA = `--tolerance_usecs=30000
+0      socket(..., SOCK_STREAM, IPPROTO_SCTP) = 3
+0      setsockopt(3, IPPROTO_SCTP, SCTP_NODELAY, [1], 4) = 0
+0.050  connect(3, ..., ...) = -1 EINPROGRESS (Operation now in progress)
+0      > sctp: INIT[flgs=0, tag=31, a_rwnd=..., os=..., is=..., tsn=500, ...]
+0.010  < sctp: INIT_ACK[flgs=0, tag=64, a_rwnd=20000, os=8, is=8, tsn=70,
                         STATE_COOKIE[len=4, val=...]]
+0      > sctp: COOKIE_ECHO[flgs=0, len=4, val=...]
+0.010  < sctp: COOKIE_ACK[flgs=0]
+0      getsockopt(3, SOL_SOCKET, SO_ERROR, [0], [4]) = 0
+0      sctp_sendmsg(3, ..., 120, ..., ..., htonl(51), 0, 2, 0, 0) = 120
+0      > sctp: DATA[flgs=BE, len=136, tsn=500, sid=2, ssn=0, ppid=51]
+0.020  < sctp: SACK[flgs=0, cum_tsn=500, a_rwnd=20000, gaps=[], dups=[]]
*       > sctp: SACK[flgs=0, cum_tsn=70, a_rwnd=..., gaps=[2:2], dups=[]]
+0      sctp_recvmsg(3, ..., 4096, ..., ..., ..., MSG_EOR) = 40
+0.100  < sctp(tag=200): ABORT[flgs=0, USER_INITIATED_ABORT[info="enough"]]
`;

/** Every chunk, parameter and cause, with numbers and with wildcards. */
export const CHUNK_FORMS: readonly string[] = [
  'CHUNK[type=0x42, flgs=0x0f, len=8, val=[0x01, 2, 3, 255]]',
  'CHUNK[type=..., flgs=..., len=..., val=...]',
  'CHUNK[type=0x42, flgs=0, len=..., val=[...]]',
  'DATA[flgs=UBE, len=17, tsn=1, sid=2, ssn=3, ppid=0xffffffff]',
  'DATA[flgs=IUBE, len=16, tsn=..., sid=..., ssn=..., ppid=...]',
  'DATA[flgs=..., len=..., tsn=4294967295, sid=65535, ssn=65535, ppid=0]',
  'DATA[flgs=0x1b, len=20, tsn=1, sid=2, ssn=3, ppid=4]',
  'INIT[flgs=0, tag=1, a_rwnd=1500, os=1, is=1, tsn=1]',
  'INIT[flgs=..., tag=..., a_rwnd=..., os=..., is=..., tsn=..., ...]',
  'INIT_ACK[flgs=0, tag=1, a_rwnd=1500, os=1, is=1, tsn=1, ECN_CAPABLE[], STATE_COOKIE[...]]',
  'SACK[flgs=0, cum_tsn=1, a_rwnd=2, gaps=[2:3, 5:5], dups=[7, 8]]',
  'SACK[flgs=0, cum_tsn=..., a_rwnd=..., gaps=..., dups=...]',
  'SACK[flgs=0, cum_tsn=..., a_rwnd=..., gaps=[...], dups=[...]]',
  'NR_SACK[flgs=0, cum_tsn=1, a_rwnd=2, gaps=[2:3], nr_gaps=[5:5], dups=[]]',
  'NR_SACK[flgs=0, cum_tsn=1, a_rwnd=2, gaps=..., nr_gaps=..., dups=...]',
  'HEARTBEAT[flgs=0, HEARTBEAT_INFORMATION[len=8, val=[0xca, 0xfe, 0x12, 0x34]]]',
  'HEARTBEAT[flgs=0, HEARTBEAT_INFORMATION[...]]',
  'HEARTBEAT_ACK[flgs=0, ...]',
  'HEARTBEAT_ACK[flgs=0, HEARTBEAT_INFORMATION[len=..., val=...]]',
  'ABORT[flgs=0]',
  'ABORT[flgs=T, ...]',
  'ABORT[flgs=1, USER_INITIATED_ABORT[info="so \\"it\\" is\\\\"]]',
  'SHUTDOWN[flgs=0, cum_tsn=3999]',
  'SHUTDOWN_ACK[flgs=0]',
  'ERROR[flgs=0, ...]',
  'COOKIE_ECHO[flgs=0, len=4, val=...]',
  'COOKIE_ECHO[flgs=0, len=6, val=[1, 2]]',
  'COOKIE_ACK[flgs=0]',
  'ECNE[flgs=0, tsn=1]',
  'CWR[flgs=0, tsn=...]',
  'SHUTDOWN_COMPLETE[flgs=T]',
  'I_DATA[flgs=B, len=21, tsn=1, sid=2, mid=3, ppid=4]',
  'I_DATA[flgs=E, len=21, tsn=1, sid=2, mid=3, fsn=4]',
  'I_DATA[flgs=..., len=..., tsn=..., sid=..., mid=..., fsn=...]',
  'RECONFIG[flgs=0, OUTGOING_SSN_RESET[req_sn=1, resp_sn=2, last_tsn=3]]',
  'RECONFIG[flgs=0, ...]',
  'PAD[flgs=0, len=16, val=...]',
  'PAD[flgs=0, len=6, val=[0, 0]]',
  'FORWARD_TSN[cum_tsn=1, ids=[{1,2}, {3,4}]]',
  'FORWARD_TSN[cum_tsn=..., ids=[]]',
  'FORWARD_TSN[cum_tsn=1, ids=...]',
  'I_FORWARD_TSN[cum_tsn=1, ids=[{1,0,2}, {3,1,4}]]',
  'I_FORWARD_TSN[cum_tsn=1, ids=[...]]',
];

export const PARAMETER_FORMS: readonly string[] = [
  'PARAMETER[type=0xc123, len=6, val=[1, 0x02]]',
  'PARAMETER[type=..., len=..., val=...]',
  'HEARTBEAT_INFORMATION[...]',
  'HEARTBEAT_INFORMATION[len=6, val=[1, 2]]',
  'IPV4_ADDRESS[addr=192.0.2.1]',
  'IPV4_ADDRESS[addr=...]',
  'IPV6_ADDRESS[addr=2001:DB8::1]',
  'IPV6_ADDRESS[addr=::ffff:192.0.2.1]',
  'IPV6_ADDRESS[addr=...]',
  'STATE_COOKIE[...]',
  'STATE_COOKIE[len=4, val=...]',
  'UNRECOGNIZED_PARAMETER[params=[PARAMETER[type=0xc123, len=4, val=[]], ECN_CAPABLE[]]]',
  'UNRECOGNIZED_PARAMETER[params=...]',
  'UNRECOGNIZED_PARAMETER[params=[...]]',
  'COOKIE_PRESERVATIVE[incr=1000]',
  'HOSTNAME_ADDRESS[addr="host.example"]',
  'HOSTNAME_ADDRESS[addr=...]',
  'SUPPORTED_ADDRESS_TYPES[types=[IPv4, IPv6, HOSTNAME, 7]]',
  'SUPPORTED_ADDRESS_TYPES[types=...]',
  'OUTGOING_SSN_RESET[req_sn=1, resp_sn=2, last_tsn=3, sids=[4, 5]]',
  'OUTGOING_SSN_RESET[req_sn=..., resp_sn=..., last_tsn=...]',
  'INCOMING_SSN_RESET[req_sn=1, sids=[0]]',
  'INCOMING_SSN_RESET[req_sn=1]',
  'SSN_TSN_RESET[req_sn=1]',
  'RECONFIG_RESPONSE[resp_sn=1, result=1]',
  'RECONFIG_RESPONSE[resp_sn=1, result=1, sender_next_tsn=2, receiver_next_tsn=3]',
  'ADD_OUTGOING_STREAMS[req_sn=1, number_of_new_streams=2]',
  'ADD_INCOMING_STREAMS[req_sn=1, number_of_new_streams=...]',
  'RECONFIG_REQUEST_GENERIC[type=0x1234, len=10, req_sn=1, val=[1, 2]]',
  'ECN_CAPABLE[]',
  'ZERO_CHECKSUM_ACCEPTABLE[edmid=SCTP_OVER_DTLS]',
  'ZERO_CHECKSUM_ACCEPTABLE[edmid=7]',
  'PAD[len=8, val=...]',
  'SUPPORTED_EXTENSIONS[types=[FORWARD_TSN, I_FORWARD_TSN, I_DATA, NR_SACK, AUTH, ASCONF, ASCONF_ACK, RECONFIG, 0x42]]',
  'SUPPORTED_EXTENSIONS[types=...]',
  'FORWARD_TSN_SUPPORTED[]',
  'ADAPTATION_INDICATION[adaptation_code_point=0x12345678]',
];

export const CAUSE_FORMS: readonly string[] = [
  'CAUSE[code=0x00a0, len=6, info=[1, 2]]',
  'CAUSE[code=..., len=..., info=...]',
  'INVALID_STREAM_IDENTIFIER[sid=7]',
  'MISSING_MANDATORY_PARAMETER[types=[STATE_COOKIE, 9]]',
  'MISSING_MANDATORY_PARAMETER[types=...]',
  'STALE_COOKIE_ERROR[staleness=...]',
  'OUT_OF_RESOURCE[]',
  'UNRESOLVABLE_ADDRESS[param=HOSTNAME_ADDRESS[addr="x"]]',
  'UNRESOLVABLE_ADDRESS[param=...]',
  'UNRECOGNIZED_CHUNK_TYPE[chk=CHUNK[type=0x42, flgs=0, len=4, val=[]]]',
  'UNRECOGNIZED_CHUNK_TYPE[chk=...]',
  'INVALID_MANDATORY_PARAMETER[]',
  'UNRECOGNIZED_PARAMETERS[params=[PARAMETER[type=1, len=..., val=...]]]',
  'UNRECOGNIZED_PARAMETERS[params=...]',
  'NO_USER_DATA[tsn=1]',
  'COOKIE_RECEIVED_WHILE_SHUTDOWN[]',
  'RESTART_WITH_NEW_ADDRESSES[params=[IPV4_ADDRESS[addr=10.0.0.1]]]',
  'USER_INITIATED_ABORT[info="text"]',
  'USER_INITIATED_ABORT[info=...]',
  'PROTOCOL_VIOLATION[info=...]',
];

/** Packets other than lists of chunks, and their prefixes. */
export const PACKET_FORMS: readonly string[] = [
  '< sctp:',
  '> sctp(tag=7): COOKIE_ACK[flgs=0]; SHUTDOWN_ACK[flgs=0]',
  '< sctp(bad_crc32c): COOKIE_ACK[flgs=0]',
  '< sctp(bad_crc32c, tag=0x10): COOKIE_ACK[flgs=0]',
  '> sctp(zero_checksum, tag=1): COOKIE_ACK[flgs=0]',
  '< sctp: [0x01, 0, 0x00, 20, 255]',
  '< sctp(tag=1)/udp(9899 > 9900): COOKIE_ACK[flgs=0]',
  '> sctp/udp(1 > 2): COOKIE_ACK[flgs=0]',
  '< 8080 > 9000 sctp: COOKIE_ACK[flgs=0]',
  '< (ttl 64, ce) sctp: COOKIE_ACK[flgs=0]',
  '> [tos 0x02, flowlabel 0x12345] 1 > 2 sctp: COOKIE_ACK[flgs=0]',
  '> (hlim 1, dscp ef) sctp: COOKIE_ACK[flgs=0]',
  '> (class 0xb8, ecn ect01) sctp: COOKIE_ACK[flgs=0]',
  '> (voice-admit, noecn) sctp: COOKIE_ACK[flgs=0]',
  '> (af43, ect1) sctp: COOKIE_ACK[flgs=0]',
  '< ipv4 10.0.0.1 > 10.0.0.2 : ipv6 (hlim 5) fe80::1 > 2001:db8::2: gre : mpls (label 16, tc 0, [S], ttl 64) : sctp: COOKIE_ACK[flgs=0]',
  '< icmp unreachable frag_needed mtu 1200 [sctp(64)]',
  '< [sctp(64)] icmp unreachable frag_needed mtu 1200',
  '< (ttl 3) [sctp(0x40)/udp(1 > 2)] icmp unreachable port_unreachable',
  '< icmp packet_too_big mtu 1280 [sctp(1)/udp(3 > 4)]',
  '< icmp type_3 code_2 [sctp(1)]',
  '< icmp echo_request id 77',
  '< icmp time_exceeded exceeded_hop_limit [udp(100)]',
  '< icmp source_quench [1:1001(1000)]',
];

export const CALL_FORMS: readonly string[] = [
  'socket(..., SOCK_STREAM, IPPROTO_SCTP) = 3',
  'bind(3, {sa_family=AF_INET, sin_port=htons(8080), sin_addr=inet_addr("192.168.0.1")}, ...) = 0',
  'accept(3, ..., ...) = -1 EWOULDBLOCK',
  'fcntl(3, F_GETFL) = 0x2 (flags O_RDWR)',
  'fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK|0x4) = 0',
  'read(3, ..., 10) = ...',
  'close(3) = -1',
  'setsockopt(3, IPPROTO_SCTP, SCTP_RTOINFO, {srto_assoc_id=0, srto_initial=..., srto_max=-1, srto_min=0x10}, 16) = 0',
  'getsockopt(3, SOL_SOCKET, SO_ERROR, [ETIMEDOUT], [4]) = 0',
  'getsockopt(3, IPPROTO_SCTP, SCTP_STATUS, {sstat_state=SCTP_ESTABLISHED, sstat_primary={spinfo_address=..., spinfo_mtu=1500}}, [176]) = 0',
  'sctp_sendmsg(3, ..., 10, NULL, 0, htonl(51), SCTP_UNORDERED|SCTP_EOF, 2, 0, 0) = 10',
  'sctp_sendv(3, [{iov_base=..., iov_len=10}, {..., 20}], 2, NULL, 0, {sendv_flags=SCTP_SEND_SNDINFO_VALID, sendv_sndinfo={snd_sid=1, snd_ppid=htonl(1)}}, 32, SCTP_SENDV_SPA, 0) = 30',
  'recvmsg(3, {msg_name(16)=..., msg_iov(1)=[{..., 100}], msg_control(40)=[{cmsg_len=40, cmsg_level=IPPROTO_SCTP, cmsg_type=SCTP_RCVINFO, cmsg_data={rcv_sid=1}}], msg_flags=MSG_EOR}, 0) = 10',
  'sctp_recvv(3, [{{sac_type=SCTP_ASSOC_CHANGE, sac_flags=0, sac_length=20, sac_info=[1, 2]}, 200}], 1, ..., ..., ..., [40], [SCTP_RECVV_RCVINFO], [MSG_NOTIFICATION]) = 20',
  'sctp_bindx(3, [], 0, SCTP_BINDX_ADD_ADDR) = -1 EINVAL (no addresses, not even one)',
  'setsockopt(3, IPPROTO_SCTP, SCTP_RESET_STREAMS, {srs_flags=1, srs_number_streams=2, srs_stream_list=[0, 1]}, 12) = 0',
];

const lines = (forms: readonly string[], wrap: (form: string) => string) => forms.map(wrap).join('\n');

/** Every form once, in one script. */
export const EVERYTHING = `/* every form */
--ip_version=ipv4-mapped-ipv6
--tolerance_usecs = 100000
--local_ip=2001:db8::1
--define=SIZE=10
\`sysctl -w net.inet.sctp.ecn_enable=0
sysctl -i net.inet.sctp.nrsack_enable=1\`
0 socket(..., SOCK_STREAM, IPPROTO_SCTP) = 3
${lines(CHUNK_FORMS, x => `+.1 > sctp: ${x}`)}
${lines(PARAMETER_FORMS, x => `* > sctp: RECONFIG[flgs=0, ${x}]`)}
${lines(CAUSE_FORMS, x => `+0.1~+0.3 > sctp: ERROR[flgs=0, ${x}]`)}
${lines(PACKET_FORMS, x => `+0 ${x}`)}
${lines(CALL_FORMS, x => `+0...0.5 ${x}`)}
#ifdef Linux
this is ' not lexed \`
#endif
#ifdef FreeBSD
2.5 \`sysctl net.inet.sctp.rto_min=1000\`
#endif
3~4.5 > sctp: COOKIE_ACK[flgs=0]
5 read(3, ..., SIZE) = SIZE
+1 %{ assert tcpi_state == 1 }%
\`sysctl -w net.inet.sctp.ecn_enable=1\`
`;
