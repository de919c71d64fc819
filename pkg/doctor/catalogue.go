package doctor

// kind is a kind of finding: an index into the catalogue.
type kind int

// The kinds, in the order of the checks.
const (
	notChecked kind = iota
	outOfTime
	configurationGood
	configurationFault
	configurationWarning
	configurationMode
	identityFly
	identityElsewhere
	identityIncomplete
	identityAddress
	identityNoAddress
	identityNotPrivate
	identityForeign
	identityRegion
	identityNoRegion
	identityRegionUnknown
	identityGenerated
	sidecarReady
	sidecarAbsent
	sidecarNoAnswer
	sidecarNotReady
	sidecarDegraded
	sidecarOther
	sidecarVersion
	sidecarStale
	sidecarUnroutable
	listenersFlyproxy
	listenersNotForUs
	listenersFree
	listenersTaken
	listenersNoAddress
	listenersAdminLocal
	listenersNoSocket
	appNone
	appAccepts
	appElsewhere
	appRefused
	appUnreachable
	appHTTP2
	appNotHTTP2
	appSilent
	appTLS
	appPlain
	appServing
	appNotServing
	appHealthName
	appNoHealth
	appHealthMode
	appHealthDenied
	appHealthFailed
	appNoWatch
	appReflection
	appNoReflection
	appBound
	appSpliced
	appToBeSpliced
	appHidden
	appLoopback
	redisNone
	redisReached
	redisName
	redisRefused
	redisUnreachable
	redisSpeaksTLS
	redisSpeaksPlain
	redisCertificate
	redisCertificateEnds
	redisCAFile
	redisSilent
	redisNotRedis
	redisNoPassword
	redisWrongPassword
	redisUnwantedPassword
	redisOpen
	redisNotAllowed
	redisFailed
	redisLatency
	redisSlow
	redisClock
	redisClockDiffers
	redisVersion
	redisOld
	redisUntold
	redisMode
	redisIsSentinel
	redisIsCluster
	redisClusterAlone
	redisNotCluster
	redisReplica
	redisKeeps
	redisEvicts
	redisMayEvict
	redisMemory
	redisMemoryShort
	redisMemoryFull
	redisRights
	redisScriptsRefused
	redisCommandsRefused
	redisSubscribeRefused
	redisRightsUnknown
	redisCost
	registryRead
	registryUnreadable
	registryWrongType
	registryRejected
	recordCurrent
	recordMissing
	recordNotExpected
	recordDraining
	recordWithdrawn
	recordSuperseded
	recordOther
	recordDiffers
	recordLeft
	peersNone
	peersReached
	peersName
	peersNetwork
	peersRefused
	peersUnreachable
	peersNotHTTP2
	peersSpeakTLS
	peersSpeakPlain
	peersCertificate
	peersRefuseUs
	peersTLSFiles
	peersNotServing
	peersNoHealth
	peersDraining
	peersBackedOff
	dnsResolved
	dnsNoName
	dnsNoAnswer
	dnsOther
	dnsNone

	kinds // how many there are
)

// catalogue has the ID and the level of every kind of finding. What the IDs mean to people stands in docs/troubleshooting.md.
var catalogue = [kinds]struct {
	id    string
	level Level
}{
	notChecked:            {"not-checked", Note},
	outOfTime:             {"out-of-time", Warning},
	configurationGood:     {"configuration.good", OK},
	configurationFault:    {"configuration.fault", Error},
	configurationWarning:  {"configuration.warning", Warning},
	configurationMode:     {"configuration.mode", Note},
	identityFly:           {"identity.fly", OK},
	identityElsewhere:     {"identity.elsewhere", Note},
	identityIncomplete:    {"identity.incomplete", Warning},
	identityAddress:       {"identity.address", OK},
	identityNoAddress:     {"identity.no-address", Error},
	identityNotPrivate:    {"identity.not-6pn", Warning},
	identityForeign:       {"identity.foreign-address", Error},
	identityRegion:        {"identity.region", OK},
	identityNoRegion:      {"identity.no-region", Note},
	identityRegionUnknown: {"identity.region-unknown", Note},
	identityGenerated:     {"identity.id-generated", Note},
	sidecarReady:          {"sidecar.ready", OK},
	sidecarAbsent:         {"sidecar.absent", Warning},
	sidecarNoAnswer:       {"sidecar.no-answer", Error},
	sidecarNotReady:       {"sidecar.not-ready", Error},
	sidecarDegraded:       {"sidecar.degraded", Warning},
	sidecarOther:          {"sidecar.other-configuration", Warning},
	sidecarVersion:        {"sidecar.other-version", Note},
	sidecarStale:          {"sidecar.stale", Warning},
	sidecarUnroutable:     {"sidecar.unroutable", Note},
	listenersFlyproxy:     {"listeners.flyproxy", OK},
	listenersNotForUs:     {"listeners.not-for-this-host", Note},
	listenersFree:         {"listeners.free", Note},
	listenersTaken:        {"listeners.taken", Error},
	listenersNoAddress:    {"listeners.no-address", Error},
	listenersNoSocket:     {"listeners.no-control-socket", Warning},
	listenersAdminLocal:   {"listeners.admin-local", Warning},
	appNone:               {"app.none", Note},
	appAccepts:            {"app.accepts", OK},
	appElsewhere:          {"app.elsewhere", Note},
	appRefused:            {"app.refused", Error},
	appUnreachable:        {"app.unreachable", Error},
	appHTTP2:              {"app.http2", OK},
	appNotHTTP2:           {"app.not-http2", Error},
	appSilent:             {"app.silent", Error},
	appTLS:                {"app.tls", Error},
	appPlain:              {"app.plaintext", Error},
	appServing:            {"app.serving", OK},
	appNotServing:         {"app.not-serving", Error},
	appHealthName:         {"app.health-name", Error},
	appNoHealth:           {"app.no-health", Note},
	appHealthMode:         {"app.health-mode", Error},
	appHealthDenied:       {"app.health-denied", Error},
	appHealthFailed:       {"app.health-failed", Error},
	appNoWatch:            {"app.no-watch", Note},
	appReflection:         {"app.reflection", OK},
	appNoReflection:       {"app.no-reflection", Note},
	appBound:              {"app.advertised", OK},
	appSpliced:            {"app.spliced", OK},
	appToBeSpliced:        {"app.to-be-spliced", Note},
	appHidden:             {"app.hidden-from-peers", Error},
	appLoopback:           {"app.advertised-loopback", Note},
	redisNone:             {"redis.none", Note},
	redisReached:          {"redis.reached", OK},
	redisName:             {"redis.name", Error},
	redisRefused:          {"redis.refused", Error},
	redisUnreachable:      {"redis.unreachable", Error},
	redisSpeaksTLS:        {"redis.speaks-tls", Error},
	redisSpeaksPlain:      {"redis.speaks-plaintext", Error},
	redisCertificate:      {"redis.certificate", Error},
	redisCertificateEnds:  {"redis.certificate-ends", Warning},
	redisCAFile:           {"redis.ca-file", Error},
	redisSilent:           {"redis.silent", Error},
	redisNotRedis:         {"redis.not-redis", Error},
	redisNoPassword:       {"redis.password-missing", Error},
	redisWrongPassword:    {"redis.password-wrong", Error},
	redisUnwantedPassword: {"redis.password-unwanted", Error},
	redisOpen:             {"redis.open", Note},
	redisNotAllowed:       {"redis.not-allowed", Error},
	redisFailed:           {"redis.failed", Error},
	redisLatency:          {"redis.latency", OK},
	redisSlow:             {"redis.slow", Warning},
	redisClock:            {"redis.clock", OK},
	redisClockDiffers:     {"redis.clock-differs", Warning},
	redisVersion:          {"redis.version", OK},
	redisOld:              {"redis.too-old", Error},
	redisUntold:           {"redis.untold", Note},
	redisMode:             {"redis.mode", OK},
	redisIsSentinel:       {"redis.is-sentinel", Error},
	redisIsCluster:        {"redis.is-cluster", Error},
	redisClusterAlone:     {"redis.cluster-in-part", Warning},
	redisNotCluster:       {"redis.not-cluster", Error},
	redisReplica:          {"redis.replica", Error},
	redisKeeps:            {"redis.eviction", OK},
	redisEvicts:           {"redis.evicts", Warning},
	redisMayEvict:         {"redis.evicts-without-limit", Note},
	redisMemory:           {"redis.memory", OK},
	redisMemoryShort:      {"redis.memory-short", Warning},
	redisMemoryFull:       {"redis.memory-full", Error},
	redisRights:           {"redis.rights", OK},
	redisScriptsRefused:   {"redis.scripts-refused", Error},
	redisCommandsRefused:  {"redis.commands-refused", Error},
	redisSubscribeRefused: {"redis.subscribe-refused", Error},
	redisRightsUnknown:    {"redis.rights-unknown", Note},
	redisCost:             {"redis.cost", Note},
	registryRead:          {"registry.read", OK},
	registryUnreadable:    {"registry.unreadable", Error},
	registryWrongType:     {"registry.wrong-type", Error},
	registryRejected:      {"registry.rejected", Warning},
	recordCurrent:         {"record.current", OK},
	recordMissing:         {"record.missing", Error},
	recordNotExpected:     {"record.not-expected", Note},
	recordWithdrawn:       {"record.withdrawn", Warning},
	recordDraining:        {"record.draining", Note},
	recordSuperseded:      {"record.superseded", Error},
	recordOther:           {"record.other-process", Error},
	recordDiffers:         {"record.differs", Warning},
	recordLeft:            {"record.left-over", Note},
	peersNone:             {"peers.none", Note},
	peersReached:          {"peers.reached", OK},
	peersName:             {"peers.name", Error},
	peersNetwork:          {"peers.network", Error},
	peersRefused:          {"peers.refused", Error},
	peersUnreachable:      {"peers.unreachable", Error},
	peersNotHTTP2:         {"peers.not-http2", Error},
	peersSpeakTLS:         {"peers.speaks-tls", Error},
	peersSpeakPlain:       {"peers.speaks-plaintext", Error},
	peersCertificate:      {"peers.certificate", Error},
	peersRefuseUs:         {"peers.refuses-our-certificate", Error},
	peersTLSFiles:         {"peers.tls-files", Error},
	peersNotServing:       {"peers.not-serving", Warning},
	peersNoHealth:         {"peers.no-health", Note},
	peersDraining:         {"peers.draining", Note},
	peersBackedOff:        {"peers.backed-off", Warning},
	dnsResolved:           {"dns.resolved", OK},
	dnsNoName:             {"dns.no-such-name", Warning},
	dnsNoAnswer:           {"dns.no-answer", Warning},
	dnsOther:              {"dns.other-address", Warning},
	dnsNone:               {"dns.none", Note},
}

// Kind is an ID that a finding may have, and its level.
type Kind struct {
	ID    string
	Level Level
}

// Catalogue lists all kinds of findings.
func Catalogue() []Kind {
	all := make([]Kind, 0, kinds)
	for _, row := range catalogue {
		all = append(all, Kind{row.id, row.level})
	}
	return all
}
