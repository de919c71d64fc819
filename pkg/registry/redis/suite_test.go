package redis_test

import (
	"testing"
)

// runStoreSuite is what every Redis must do the same.
func runStoreSuite(t *testing.T, b backend) {
	for _, one := range []struct {
		name string
		run  func(*testing.T, backend)
	}{
		{"RecordComesBackAsItWas", testRecordComesBack},
		{"BeatTellsStandings", testStandings},
		{"OnlyAClaimReplacesAnotherIncarnation", testClaim},
		{"ClaimsAreRanked", testClaimRank},
		{"OldIncarnationCannotRemove", testDeregister},
		{"IdenticalRecordIsSilent", testIdentical},
		{"VersionIsRedisTimeAndGrows", testVersion},
		{"MessagesChain", testMessages},
		{"VersionDoesNotReturnAfterLoss", testVersionAfterLoss},
		{"PruneIsBounded", testPrune},
		{"OwnExpiredLeaseIsRenewedNotPruned", testOwnExpired},
		{"SilenceOfTheFleetRenewsAll", testSilence},
		{"ShorterLeaseCutsNobodys", testShorterLease},
		{"ClockBackRenewsAll", testClockBack},
		{"LostLeasesAreMended", testMend},
		{"OrphansAreForgotten", testOrphans},
		{"WrongTypeNamesTheKeyAndWritesNothing", testWrongType},
		{"BadRecordsStopNobody", testBadRecords},
		{"GarbageIsReplaced", testGarbageReplaced},
		{"TenMegabytesAreNotSent", testTenMegabytes},
		{"NewerSchemaIsRead", testNewerSchema},
		{"SignaturesAreDemanded", testSignatures},
		{"BadPutIsARemoval", testBadPut},
		{"LargeRecordIsAReset", testLargeRecord},
		{"ForeignMessageIsAReset", testForeignMessage},
		{"LoadsTravelWithBeats", testLoads},
		{"LoadsAreCoalesced", testLoadsCoalesced},
		{"NoKeyHasATTL", testNoTTL},
		{"ScriptCacheLost", testNoScript},
		{"NamespacesAreApart", testNamespaces},
		{"CancelledCallerIsToldSo", testCancelled},
		{"BadArguments", testBadArguments},
		{"ConcurrentUse", testConcurrent},
	} {
		t.Run(one.name, func(t *testing.T) { one.run(t, b) })
	}
	if b.real {
		t.Run("OneCommandABeat", func(t *testing.T) { testOneCommand(t, b) })
	}
	// Last, because they take everybody's data.
	t.Run("FlushAll", func(t *testing.T) { testFlushAll(t, b) })
	t.Run("SupersededAfterLossGivesWayToTheNewer", func(t *testing.T) { testSupersededAfterLoss(t, b) })
}
