// Every cap of keytrail, in one place, with its reason. Hitting one is counted (common/counters.h) and told
// in the summary; it never ends the process.
#pragma once

#include <cstddef>
#include <cstdint>

namespace keytrail::limits {

// capture -------------------------------------------------------------------------------------------------
// Largest snapshot length that we ask for: libpcap's own maximum, so that offloaded 64 KiB segments fit.
inline constexpr int kSnapLen = 262144;
// One block of a pcapng file: libpcap's own maximum. A larger one is damage, or nothing that we want.
inline constexpr size_t kMaxCaptureBlockBytes = 16u << 20;
// Interfaces of one pcapng section; a merged file has one for each file that went into it.
inline constexpr size_t kMaxCaptureInterfaces = 4096;
// The kernel's ring of one device: half a second of 1 Gbit/s. The least has two blocks of libpcap's, one to
// fill and one to read; the most is what a machine has to spare, below what libpcap takes as a size.
inline constexpr int kDefaultRingBytes = 64 << 20;
inline constexpr int kMinRingBytes = 512 << 10;
inline constexpr int kMaxRingBytes = 1 << 30;
// Devices of one agent; each has a ring, and each packet is compared with the next one of all others.
inline constexpr size_t kMaxDevices = 16;
// Ports and ranges of --ports: three comparisons each, three times, in the kernel's filter (of 4096).
inline constexpr size_t kMaxPortRanges = 64;

// process -------------------------------------------------------------------------------------------------
// Connections whose processes are remembered, some 150 bytes each; beyond, all are asked for again.
inline constexpr size_t kMaxNamedConnections = 65536;

// focus ---------------------------------------------------------------------------------------------------
// Connections that the kernel's filter leaves out: up to 56 instructions each, of 4096. The busiest first.
inline constexpr size_t kMaxExcludedConnections = 48;
// Ports that it leaves out, and those that it never does. Each is a comparison or two for each packet.
inline constexpr size_t kMaxExcludedPorts = 32;
inline constexpr size_t kMaxWantedPorts = 64;
// A port has shown what it is for when so many connections to it began with something else than HTTP/2.
inline constexpr uint32_t kForeignConnectionsOfAPort = 16;
// Packets between two looks that make it worth to leave a connection out.
inline constexpr uint64_t kPacketsWorthExcluding = 50;
// The kernel's filter is exchanged at most this often.
inline constexpr int64_t kFilterEveryNs = 1'000'000'000;
// Ports of which packets looked like HTTP/2 once; beyond, one is forgotten for each new one.
inline constexpr size_t kMaxSuspectedPorts = 1024;

// tcp -----------------------------------------------------------------------------------------------------
// A host of a large cluster has tens of thousands of connections; one costs about 1 KiB when idle.
inline constexpr size_t kMaxConnections = 65536;
// Out-of-order bytes held for one direction of one connection: several times the largest window seen.
inline constexpr size_t kMaxHeldBytesPerDirection = 4u << 20;
// ... and their number: tiny segments cost more than their bytes, and a place among them is searched one by
// one.
inline constexpr size_t kMaxHeldSegmentsPerDirection = 8192;
// ... and bytes for all connections together.
inline constexpr size_t kMaxHeldBytes = 64u << 20;
// A hole that the peer has acknowledged is a loss of the capture, not of the network. It is given up when
// this many further segments of the connection have passed: more than any reordering by a NIC or `any`.
inline constexpr uint32_t kGapAfterSegments = 256;
// ... or when this much capture time has passed (longer than several retransmission timeouts).
inline constexpr int64_t kGapAfterNs = 10'000'000'000;
// A connection without a packet for this long is ended (TiKV's keepalive is 10 s, so it is dead).
inline constexpr int64_t kIdleConnectionNs = 900'000'000'000;

// Where a direction begins is decided when its SYN was seen, or this many segments (of all connections) or
// this much capture time after its first payload: earlier ones may have been captured later. More than any
// reordering by a NIC, `any` or several capture threads.
inline constexpr uint64_t kSettleSegments = 128;
inline constexpr int64_t kSettleNs = 2'000'000'000;
// The time alone decides only after this much: on a quiet host few packets lie seconds apart, and a
// reordering is one of packets. Before that so many segments must have passed, too.
inline constexpr uint64_t kSettleFewSegments = 64;
inline constexpr int64_t kSettleQuietNs = 10'000'000'000;
// A sequence number further from the expected one is foreign (stale, garbage, or a new connection whose SYN
// was lost). TCP allows windows of 2^30; real ones stay below 2^26, and a larger loss is told no worse as a
// connection that is joined late.
inline constexpr int32_t kSequenceWindow = 1 << 28;
// This many foreign segments in a row, one following the other, are a new connection.
inline constexpr int kForeignSegments = 8;
// Ended connections that are remembered, so that stragglers do not look like new ones.
inline constexpr size_t kMaxClosedConnections = 4096;
inline constexpr int64_t kClosedConnectionNs = 60'000'000'000;

// packet --------------------------------------------------------------------------------------------------
// VLAN tags, tunnels and IPv6 extension headers nested in one packet.
inline constexpr int kMaxEncapsulations = 8;
// IP datagrams that wait for fragments, and their bytes: a busy tunnel has a few hundred on their way, and a
// datagram has at most 64 KiB.
inline constexpr size_t kMaxFragmentedDatagrams = 4096;
inline constexpr size_t kMaxFragmentBytes = 16u << 20;
// Fragments of one datagram are sent in one go. A datagram that is not complete after this time never will
// be, and its number (16 bits in IPv4) comes round: old and new fragments must not meet.
inline constexpr int64_t kFragmentTimeoutNs = 5'000'000'000;
// A datagram that was complete is remembered this long: a capture on several devices sees each fragment again
// within milliseconds, and a lonely copy would meet the next datagram of that number.
inline constexpr int64_t kFragmentCopiesNs = 100'000'000;

// http2 ---------------------------------------------------------------------------------------------------
// Bytes looked at before a connection is said not to be HTTP/2.
inline constexpr size_t kMaxDetectBytes = 65536;
// ... of all connections together: thousands of connections that are not HTTP/2 may be open when we come.
// Beyond it a search looks back this far only, which is several small frames.
inline constexpr size_t kMaxDetectBytesTotal = 16u << 20;
inline constexpr size_t kMinDetectBytes = 2048;
// Answers that are held while the frames of their questions are looked for after a loss, and for how long.
inline constexpr size_t kMaxBehindBytes = 16u << 10;
inline constexpr int64_t kMaxBehindNs = 100'000'000;
// Bytes of one direction searched in vain, in windows of kMaxDetectBytes, before a connection joined late is
// left alone. One window may lie within a message of frames that say nothing new.
inline constexpr size_t kMaxSearchBytes = 1u << 20;
// A header block with its CONTINUATIONs. gRPC's own default is 8 KiB (grpc-go), 16 KiB (C-core).
inline constexpr size_t kMaxHeaderBlockBytes = 256u << 10;
// ... of all connections together, while they are open. Beyond it a block may have a few KiB, which is more
// than the blocks of a call have.
inline constexpr size_t kMaxOpenBlockBytes = 64u << 20;
// The names and values of one header block, inflated (a bomb guard: one byte may stand for 4 KiB).
inline constexpr size_t kMaxHeaderListBytes = 1u << 20;
// SETTINGS_MAX_FRAME_SIZE may go up to 2^24-1 (RFC 9113 section 6.5.2).
inline constexpr size_t kMaxFrameBytes = (1u << 24) - 1;
// SETTINGS_HEADER_TABLE_SIZE that we follow; a peer may announce 4 GiB.
inline constexpr size_t kMaxHeaderTableBytes = 1u << 20;
// ... of all connections together, beyond the 4 KiB that every table has. Small entries take several times
// the memory that HPACK counts for them.
inline constexpr size_t kMaxHeaderTableBytesTotal = 32u << 20;

// grpc ----------------------------------------------------------------------------------------------------
// Open streams of one connection (TiKV's grpc-concurrent-stream is 1024, grpc-go's default 2^32-1).
inline constexpr size_t kMaxStreamsPerConnection = 8192;
// One gRPC message that is kept whole for decoding. TiKV's limit is 10 GiB by configuration, raft entries
// end at 8 MiB, coprocessor answers are paged.
inline constexpr size_t kMaxMessageBytes = 64u << 20;
// Bytes of partial messages of all streams together.
inline constexpr size_t kMaxPartialBytes = 256u << 20;
// A decompressed message (a bomb guard).
inline constexpr size_t kMaxInflatedBytes = 64u << 20;
// BatchCommands requests that wait for their answer, for one stream.
inline constexpr size_t kMaxPendingRequestsPerStream = 65536;
// ... for all streams together, and the bytes of their facts.
inline constexpr size_t kMaxPendingRequests = 1u << 20;
inline constexpr size_t kMaxHeldFactBytes = 256u << 20;
// Open streams of all connections together.
inline constexpr size_t kMaxStreams = 262144;
// Names of methods that no schema has, remembered for counting.
inline constexpr size_t kMaxForeignMethods = 4096;
// ... and the bytes of their names: a path may be as long as a header block.
inline constexpr size_t kMaxForeignMethodBytes = 4u << 20;
// Bytes of one stream that are kept while its message boundaries are looked for (after a loss, or joined
// late): a message that is larger cannot prove the place where it begins.
inline constexpr size_t kMaxSearchedMessageBytes = 4u << 20;
// Places that are tried at the same time in that search, and complete messages that await its proof.
inline constexpr size_t kMaxSearchChains = 4;
inline constexpr size_t kMaxSearchMessages = 4096;

// What waits for a name (agent/grpc/nameless.h): messages of one stream or calls of one slot, their bytes,
// and how long. A method of one's own is proved by two to four calls; a live reader should not wait longer.
inline constexpr size_t kMaxWaitingMessages = 64;
inline constexpr size_t kMaxWaitingBytes = 1u << 20;
inline constexpr int64_t kMaxWaitForNameNs = 5'000'000'000;
// Calls or messages that are listened to before a slot or stream is given up.
inline constexpr uint32_t kMaxObserved = 4096;
// :path entries of a header table that are remembered across a loss, and the length of one.
inline constexpr size_t kMaxFormerEntries = 64;
inline constexpr size_t kMaxFormerPathBytes = 256;
// Unknown entries of one header table: 4,096 bytes hold 128.
inline constexpr size_t kMaxNamedSlots = 256;
// Streams of one slot that went out as unknown and can be amended.
inline constexpr size_t kMaxAmended = 4096;
// Servers of which it is remembered what they offer: those of a large cluster.
inline constexpr size_t kMaxServers = 65536;

// schema --------------------------------------------------------------------------------------------------
inline constexpr int kMaxMessageDepth = 32;
inline constexpr size_t kMaxErrorTextBytes = 4096;
// Keys of one message (a BatchGet or a Prewrite may have 10,000s) and their bytes.
inline constexpr size_t kMaxKeysPerMessage = 65536;
inline constexpr size_t kMaxFactBytesPerMessage = 8u << 20;
inline constexpr size_t kMaxStatementsPerMessage = 65536;
// A region has three to seven peers.
inline constexpr size_t kMaxPeersPerMessage = 8 * kMaxStatementsPerMessage;
// Tasks of a coprocessor request, regions of a TiFlash one; a KeyItem refers to them with 16 bits.
inline constexpr size_t kMaxRoutesPerMessage = 65000;
// KvPair.error, one for each key at worst; nobody reads more.
inline constexpr size_t kMaxErrorsPerMessage = 4096;

// ship ----------------------------------------------------------------------------------------------------
inline constexpr size_t kMaxBatchBytes = 1u << 20;  // serialized records in a batch, before zstd
inline constexpr size_t kMaxBatchRecords = 2048;
inline constexpr size_t kMaxWireMessageBytes = 16u << 20;  // what a collector accepts at all
inline constexpr uint32_t kCreditBatches = 16;             // batches in flight without an acknowledgement
// One record with its facts and messages: both messages at their largest are cut (over_cap), so that a batch
// that is closed by such a record still fits kMaxWireMessageBytes, even if zstd cannot make it smaller.
inline constexpr size_t kMaxRecordBytes = 12u << 20;
// A payload after decompression: a batch that was closed by the largest record, with that record's names (a
// method's name may be as long as a header block). Its zstd bound still fits kMaxWireMessageBytes.
inline constexpr size_t kMaxPayloadBytes = kMaxBatchBytes + kMaxRecordBytes + (2u << 20);
// Interned names and connections of one payload (a record refers to six names and one connection at most),
// and losses. Guards the reader against a payload of two-byte entries.
inline constexpr size_t kMaxBatchNames = 65536;
inline constexpr size_t kMaxBatchConnections = 65536;
inline constexpr size_t kMaxBatchLosses = 4096;
// Sealed batches that wait for the collector, decompressed: about 100,000 records, a second of a busy host.
inline constexpr size_t kMaxShipQueueBytes = 32u << 20;
// Bytes of the spool on disk: by default nine to forty million calls, since one takes 25 to 120 bytes
// there. The least has room for two of the largest messages; the most is where the files become too many.
inline constexpr uint64_t kDefaultSpoolBytes = 1ull << 30;
inline constexpr uint64_t kMinSpoolBytes = 2 * kMaxWireMessageBytes + (4u << 20);
inline constexpr uint64_t kMaxSpoolBytes = 256ull << 30;
// Files of a spool: 256 GiB in segments of 16 MiB, or as many starts of an agent that finds no collector.
inline constexpr size_t kMaxSpoolSegments = 16384;
// What a crash of the machine (not of the agent) may take; each sync costs a disk some milliseconds.
inline constexpr int64_t kSpoolSyncNs = 1'000'000'000;
// A disk that is full, read-only or failing is tried again so often.
inline constexpr int64_t kSpoolRetryNs = 1'000'000'000;
// Compressed batches that wait in memory for a disk that takes none; then the queue before them fills.
inline constexpr size_t kMaxUnspooledBytes = 16u << 20;
// Compressed batches that are read ahead for the thread that ships.
inline constexpr size_t kMaxReadyBytes = 4u << 20;
// A batch is sent after this time even if it is small, so that a quiet host is heard.
inline constexpr int64_t kMaxBatchAgeNs = 200'000'000;

// receive -------------------------------------------------------------------------------------------------
// Agents with an open session; hundreds of hosts are expected, the rest is room for reconnects.
inline constexpr size_t kMaxSessions = 4096;
// --agent-quota, calls a second: at the least, 16 batches that were under way already are earned before an
// agent takes their silence for a dead collector (60 s).
inline constexpr uint64_t kMinAgentQuota = 1000;
inline constexpr uint64_t kMaxAgentQuota = 100'000'000;
// Texts of a Hello: a path (PATH_MAX) with a few words.
inline constexpr size_t kMaxHelloTextBytes = 4096 + 256;
// Of a peer that has not said Hello nothing larger is parsed: a Hello has five texts, a fingerprint and some
// numbers.
inline constexpr size_t kMaxHelloBytes = 6 * kMaxHelloTextBytes;
// Hosts that a sentence about agents that differ names for each form.
inline constexpr size_t kMaxToldHosts = 8;
// An agent says Hello as soon as it is connected. Who has not after this time, by a receiver that has nothing
// else to do, is put out: half a handshake, a mute peer, a scanner.
inline constexpr int64_t kMaxHelloWaitNs = 6'000'000'000;
// libzmq's own bound on half a handshake, below the one above: a lost packet is sent again well within it.
inline constexpr int kMaxHandshakeMs = 4000;
// Connections without Hello at one time; beyond that the oldest is put out. All agents of a large cluster
// come at once when a collector starts while it has no time to answer; each costs a file descriptor.
inline constexpr size_t kMaxConnectionsWithoutHello = 1024;
// Messages of one connection that are no messages of the protocol. An agent ends at the first refusal.
inline constexpr int kMaxMalformedMessages = 8;
// What a collector says of refused peers: so many lines at once, then one in each such time; what is not said
// is counted in the next line. A scanner must not fill a disk with logs.
inline constexpr int kMaxNoticesAtOnce = 10;
inline constexpr int64_t kNoticeEveryNs = 10'000'000'000;
// A key file has some 130 bytes, and its name is that of a host.
inline constexpr size_t kMaxKeyFileBytes = 4096;
inline constexpr size_t kMaxKeyNameBytes = 64;
// Files in the folder of admitted keys.
inline constexpr size_t kMaxAdmittedKeys = 10'000;

// store ---------------------------------------------------------------------------------------------------
// Windows of calls that are kept beside each other. SQLite attaches ten files to one connection, and a query
// reads all windows as one table; the rest is room for the one that is being made while the oldest goes.
inline constexpr size_t kMaxWindows = 8;
// How long and how much is kept if nobody says: an incident is looked into within a day, and 20 GiB is what a
// host that was not bought for this has to spare. A window is a sixth of the age, an eighth of the bytes.
inline constexpr int64_t kDefaultKeepAgeNs = 24ll * 3'600'000'000'000;
inline constexpr uint64_t kDefaultKeepBytes = 20ull << 30;
// Calls that are carried over when their window goes, because a verdict refers to them or because they are
// the first to state a route: about 1.5 KiB each. Beyond, the oldest that no verdict refers to go.
inline constexpr size_t kMaxCarriedCalls = 100'000;
// Rows about windows that are gone; beyond, the two oldest become one.
inline constexpr size_t kMaxGoneWindows = 1000;

// query ---------------------------------------------------------------------------------------------------
// A certificate with its chain, or a file of authorities; those of a whole operating system are 220 KiB.
inline constexpr size_t kMaxCertificateBytes = 1u << 20;
// A statement of a user. A long one written by a program has some kilobytes.
inline constexpr int kMaxSqlBytes = 256 << 10;
// One value that a query makes or reads: the largest row of record_batches still comes out.
inline constexpr int kMaxSqlValueBytes = 16 << 20;
// All values of one row, since a row is one message to the client.
inline constexpr size_t kMaxSqlRowBytes = 20u << 20;
// What a statement may consist of: several times what the largest of the saved queries has, far below what
// keeps SQLite's parser and planner busy for seconds, where no time limit reaches it.
inline constexpr int kMaxSqlExpressionDepth = 200;
inline constexpr int kMaxSqlCompoundSelects = 50;
inline constexpr int kMaxSqlColumns = 1000;
inline constexpr int kMaxSqlOperations = 100'000;
inline constexpr int kMaxSqlFunctionArguments = 64;
inline constexpr int kMaxSqlParameters = 64;
// LIKE and GLOB take time by pattern times text, and look at no clock in between.
inline constexpr int kMaxSqlLikePatternBytes = 1000;
// Memory of one query inside SQLite: sorting a few million calls by time. There are no temporary files.
inline constexpr int64_t kMaxQueryMemoryBytes = 256ll << 20;
// Rows and time of a query that does not say, and the most that a collector gives one that does.
inline constexpr uint64_t kDefaultQueryRows = 1'000'000;
inline constexpr uint64_t kMaxQueryRows = 10'000'000;
inline constexpr int64_t kDefaultQueryTimeNs = 30'000'000'000;
inline constexpr int64_t kMaxQueryTimeNs = 300'000'000'000;
// Queries that run at once in a collector, each with a thread and its memory; the others wait in line, each
// with a thread of the gRPC server. Beyond that they are turned away.
inline constexpr size_t kMaxQueriesRunning = 4;
inline constexpr size_t kMaxQueriesWaiting = 256;
inline constexpr size_t kMaxWatchers = 128;
// Threads of the gRPC server: all of the above and some that poll and turn away.
inline constexpr int kMaxServiceThreads = 512;
// A request is a statement and its parameters.
inline constexpr int kMaxServiceRequestBytes = 1 << 20;
// Each connection costs a descriptor: one that has not said in this time what HTTP/2 and TLS begin with, or
// that asks nothing for so long, ends. Clients that come back do so by themselves.
inline constexpr int kMaxQueryHandshakeMs = 10'000;
inline constexpr int kMaxQueryIdleMs = 60'000;
// The log of exports: some 60,000 of them; with the one before it, twice as much.
inline constexpr uint64_t kMaxAuditBytes = 16u << 20;
// Of a statement in it: what was asked is seen, a program's list of a thousand keys is not.
inline constexpr size_t kMaxAuditStatementBytes = 512;
// Rows are gathered up to this size before they are sent.
inline constexpr size_t kMaxAnswerChunkBytes = 64u << 10;
// A log (WAL) of this size is folded into the database while no query reads: as long as one does, whenever it
// began, SQLite can only append to it.
inline constexpr uint64_t kMaxLogBytes = 256u << 20;

// correlate -----------------------------------------------------------------------------------------------
// Observations that wait for the other end's view of their call, besides those that something refers to.
// Agents ship every 0.2 s, so that at 20,000 calls a second from both ends this is more than three seconds of
// all hosts. Twice as many are held before the older half is gone through.
inline constexpr size_t kPairingWindow = 1u << 17;
// ... where all records come file by file, one host after the other (96 bytes each).
inline constexpr size_t kFilesPairingWindow = 1u << 23;
// Occurrences remembered of one distinct statement (region, version, range, who, to whom): heartbeats repeat
// for days. The count goes on, and the first and last ones stay.
inline constexpr size_t kMaxUsesPerStatement = 256;
// ... of all statements together; each holds an observation. Beyond it those of undisputed regions become
// fewer, down to the first and the last one.
inline constexpr size_t kMaxStatementUses = 1u << 20;
// Versions of regions of which the ledger knows what was said: a large cluster has some 100,000 regions.
// Beyond it the undisputed ones that were not spoken of for longest are forgotten, and verdicts say so.
inline constexpr size_t kMaxLedgerRegions = 1u << 19;
// Smallest and largest served key by region version, server and command.
inline constexpr size_t kMaxServedPlaces = 1u << 19;
// Complaints kept with their keys; a storm of one cause is a few thousand. Beyond half of it, and this many
// of each kind (region version, client, server), first and last, the others are only counted.
inline constexpr size_t kMaxComplaints = 200'000;
inline constexpr size_t kComplaintsOfAKind = 128;
// Errors that may come to matter by repetition, PD answers that are wrong on their face, and requests that
// are odd though nobody refused them. The oldest are given up, and counted.
inline constexpr size_t kMaxSetbacks = 1u << 16;
inline constexpr size_t kMaxFaceFaults = 1u << 16;
inline constexpr size_t kMaxOddRequests = 1u << 16;
// Connections that the correlator tells apart, 300 bytes each. Beyond it those of which no call is held any
// more become one where only the client's port differs.
inline constexpr size_t kMaxKnownConnections = 1u << 16;
// Connections through a NAT or proxy that are listed with their ports.
inline constexpr size_t kMaxTranslationsListed = 4096;
// Notes of losses; neighbours in time of one agent and kind are joined beyond it.
inline constexpr size_t kMaxLossNotes = 1u << 16;
// Names of methods and commands: numbers of 16 bits. What has no room is a call without a name.
inline constexpr size_t kMaxCallNames = 65'000;
// Keys of one complaint's request that are kept (a prewrite may have 10,000s; those out of bounds first).
inline constexpr size_t kMaxItemsPerComplaint = 16;
// PD lookups of which the asked key is remembered for the evidence.
inline constexpr size_t kMaxAskedKeys = 500'000;
// Ranges that clients read or asked PD for, 200 bytes each: half a minute of a busy cluster, which is longer
// than a client takes to read on behind a hole. Those beside a hole are kept longer.
inline constexpr size_t kMaxReadRanges = 1u << 16;
// Questions to PD where a store lives: a client asks for all stores every 10 s.
inline constexpr size_t kMaxStoreAsks = 1u << 16;
// Occurrences listed in one verdict; more are counted.
inline constexpr size_t kMaxOccurrencesListed = 4096;
// Buckets of time (17 ms at first) in which bounds of clocks are kept, of all pairs of hosts together, 150
// bytes each. When there are more all become twice as wide, and bounds in quiet moments a little looser: ten
// busy pairs have room for seven minutes at 17 ms, for an hour at 0.13 s.
inline constexpr size_t kMaxFilesClockBuckets = 1u << 19;
// ... on a collector, which works them out again and again: 20 hosts that all talk to each other have room
// for a minute at 0.07 s and for an hour at 4 s, which costs a bound up to 2 ms.
inline constexpr size_t kMaxClockBuckets = 1u << 17;
// Lines that describe one pair's clocks in a report; where a clock is so restless that there are more, they
// are joined and their bounds grow.
inline constexpr size_t kMaxClockLines = 256;

// restraint -----------------------------------------------------------------------------------------------
// What an agent uses is looked at over this long, and it must be above its limit all that time: a burst of a
// second is no reason to leave anything unread.
inline constexpr int64_t kRestraintWindowNs = 2'000'000'000;
// How long it must be below three quarters of the limit before a step back; doubled, up to the second, each
// time that a step back turns out to have been too early.
inline constexpr int64_t kRestraintCalmNs = 5'000'000'000;
inline constexpr int64_t kRestraintMostCalmNs = 320'000'000'000;
// Of Tso, etcd and Raft messages that are sampled one in so many is read.
inline constexpr uint64_t kSampledOneIn = 64;

// fleet ---------------------------------------------------------------------------------------------------
// Of a topology or an inventory: hundreds of hosts are some 100 KiB.
inline constexpr size_t kMaxTopologyBytes = 4u << 20;
// A collector has room for no more (kMaxSessions).
inline constexpr size_t kMaxFleetHosts = 4096;
// Of what a command says on stdout, and on stderr: a host answers in lines, and the rest is not for us.
inline constexpr size_t kMaxCommandOutputBytes = 64u << 10;
// Commands at a time that --jobs allows: each is a process with a connection.
inline constexpr int kMaxFleetJobs = 256;

// timeline ------------------------------------------------------------------------------------------------
// Observations that one timeline looks at (about 400 bytes each); what is beyond is counted as not looked at.
inline constexpr size_t kMaxTimelineObservations = 400'000;
// Calls that a timeline shows at most, whatever the user asks for: a trace of 100 MB opens in seconds.
inline constexpr size_t kMaxTimelineCalls = 100'000;
// Refused calls of which it is looked up what led to them and what followed. Each costs a comparison for each
// call of its client in the seconds after it.
inline constexpr size_t kMaxTimelineChains = 64;

}  // namespace keytrail::limits
