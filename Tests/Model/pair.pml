/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Two hosts, both with ndbpf, and what latch.pml can't say of one: that nobody waits for ever. A
 * flow in both directions, the peer records with all their states, both daemons, a network that
 * loses packets. A number of faults happens (FAULTS: a lost packet or event, a failed negotiation,
 * a daemon that dies with or without its SAs, SAs that expire or are deleted on one side), each at
 * any time; after the last one each host hears the other again and again: goes_on. No step needs
 * the other host to be well: where it is not, the flow waits, which is what the latch is for.
 *
 * And between the hosts: an ESP packet that is sent before anything was removed finds its inbound
 * SA (both sides' inbound come first), and no host that was secured sends a clear packet.
 *
 * Time is not counted: intervals end some time (weak fairness). What always holds is asserted:
 * finds_sa, latched_out. BROKEN_... are faults that must be found.
 */
#ifndef FAULTS
#define FAULTS 2
#endif

/* enum nd_peer_state */
#define UNKNOWN 0
#define NEGOTIATING 1
#define SECURED 2
#define LOST 3
#define CLEAR 4

#define NOTHING 0
#define CLEAR_PACKET 1
#define ESP 2

byte peer[2];
bool secured[2];       /* an entry in nd_secured */
bool was_secured[2];
bool event[2];         /* in the ring */
bool sa_in[2], sa_out[2];
bool running[2] = 1;
byte wire[2];          /* on the way to the host */
byte faults = FAULTS;
bool talking;          /* a negotiation runs: collisions are Sources/NDKeying's and its tests' */
bool removed;          /* an SA went on some side since the last negotiation */
bool heard[2];         /* a protected packet arrived, just now */

#define other (1 - me)

inline ask() {
	if
	:: peer[me] != SECURED -> /* NEGOTIATING: after the interval, again */
#ifdef BROKEN_ASKS_ONCE
		event[me] = peer[me] != NEGOTIATING;
#else
		event[me] = 1;
#endif
		peer[me] = NEGOTIATING;
		if
		:: faults > 0 -> faults--; event[me] = 0
		:: true
		fi
	:: else
	fi
}

proctype outbound(byte me) {
end:	do
	:: atomic { wire[other] == NOTHING -> /* outbound */
		if
#ifdef BROKEN_STAYS_LATCHED
		:: peer[me] == SECURED && secured[me] /* waits */
		:: peer[me] == SECURED && !secured[me] -> secured[me] = 1;
#else
		:: peer[me] == SECURED -> secured[me] = 1;
#endif
			if
			:: sa_out[me] -> wire[other] = ESP
			:: else /* nd0 has none: lost */
			fi
#ifdef BROKEN_CLEAR_WHILE_NEGOTIATING
		:: peer[me] != SECURED && secured[me] && peer[me] != NEGOTIATING -> ask()
		:: peer[me] == NEGOTIATING && secured[me] -> assert(!secured[me]) /* latched_out */
#elif defined(BROKEN_WAITS_SILENTLY)
		:: peer[me] != SECURED && secured[me]
#else
		:: peer[me] != SECURED && secured[me] -> ask()
#endif
		:: peer[me] != SECURED && !secured[me] -> ask(); wire[other] = CLEAR_PACKET
		fi;
		if
		:: wire[other] != NOTHING && faults > 0 -> faults--; wire[other] = NOTHING
		:: true
		fi
	}
	od
}

proctype inbound(byte me) {
end:	do
	:: atomic { wire[me] == ESP ->
		assert(sa_in[me] || removed); /* finds_sa */
		if
		:: sa_in[me] -> secured[me] = 1; heard[me] = 1
		:: else
		fi;
		wire[me] = NOTHING
	};
		heard[me] = 0
	:: atomic { wire[me] == CLEAR_PACKET -> wire[me] = NOTHING } /* taken or, with an entry, dropped */
	od
}

inline drop_pair(h) {
	if
	:: peer[h] == SECURED -> peer[h] = LOST
	:: else
	fi;
	sa_in[h] = 0; sa_out[h] = 0; removed = 1
}

proctype daemon(byte me) {
end:	do
	/* The initiator: what it has is replaced. */
	:: atomic { running[me] && running[other] && event[me] && peer[me] != SECURED && !talking ->
		talking = 1; event[me] = 0; peer[me] = NEGOTIATING };
		if
		:: atomic { faults > 0 -> faults--; peer[me] = CLEAR }
		:: atomic { running[me] && running[other] ->
#ifdef BROKEN_OUTBOUND_FIRST
			sa_in[me] = 1;
#else
			sa_in[me] = 1; sa_in[other] = 1;
#endif
			removed = 0
		};
			if
			:: atomic { running[me] && sa_in[me] -> sa_out[me] = 1; peer[me] = SECURED; was_secured[me] = 1 };
				if
				:: atomic { running[other] && (sa_in[other] || !removed) ->
					sa_in[other] = 1; sa_out[other] = 1; peer[other] = SECURED; was_secured[other] = 1 }
				:: !running[other] || removed
				fi
			:: !running[me] || !sa_in[me]
			fi
		:: !running[me] || !running[other]
		fi;
		talking = 0
	:: atomic { running[me] && event[me] && peer[me] == SECURED -> event[me] = 0 }
	/* Liveness: the other side has no SA of this pair. */
	:: atomic { running[me] && running[other] && peer[me] == SECURED && !talking && (!sa_in[other] || !sa_out[other]) -> drop_pair(me) }
	/* An inbound SA that the peer never used. */
	:: atomic { running[me] && peer[me] != SECURED && sa_in[me] && !talking -> sa_in[me] = 0; removed = 1 }
	/* The kernel reports that the SA is gone. */
	:: atomic { running[me] && peer[me] == SECURED && !sa_out[me] -> drop_pair(me) }
	/* A new daemon adopts. */
	:: atomic { !running[me] -> running[me] = 1; event[me] = 0;
		if
		:: sa_in[me] && sa_out[me] -> peer[me] = SECURED; was_secured[me] = 1
		:: else ->
			sa_in[me] = 0; sa_out[me] = 0; removed = 1;
			if
			:: was_secured[me] -> peer[me] = LOST
			:: else -> peer[me] = UNKNOWN
			fi
		fi }
	/* Faults. */
	:: atomic { running[me] && faults > 0 -> faults--; running[me] = 0; event[me] = 0 }
	:: atomic { running[me] && faults > 0 -> faults--; running[me] = 0; event[me] = 0; sa_in[me] = 0; sa_out[me] = 0; removed = 1 }
	:: atomic { faults > 0 && peer[me] == SECURED -> faults--; drop_pair(me) }
	:: atomic { faults > 0 && sa_out[me] -> faults--; sa_in[me] = 0; sa_out[me] = 0; removed = 1 }
	od
}

init {
	atomic { run outbound(0); run inbound(0); run outbound(1); run inbound(1); run daemon(0); run daemon(1) }
}

ltl goes_on { ([]<> heard[0]) && ([]<> heard[1]) }
