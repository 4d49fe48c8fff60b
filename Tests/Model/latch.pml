/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * One host: two CPUs that run the datapath's two tables for one 5-tuple, the peer record, the
 * daemon, the sweeper, the clock. Everything else is free: the local stack sends what it likes, the
 * network delivers clear packets of any kind at any time (so do attackers: nothing tells them
 * apart), and decrypted ones whenever an inbound SA is installed. What holds here holds whatever
 * the peer, the network and an attacker do; docs/model.md tells what that leaves out.
 *
 * The promise. Once a packet of the 5-tuple was protected (went into nd0, or was taken decrypted)
 * none that comes later leaves in clear and none is taken in clear, until the connection ended
 * (FIN of both or RST, sent by this host or authenticated) and this host or, authenticated, the
 * peer opened it anew; or until no packet of either side was seen for MEMORY. Inbound grace: where
 * a clear connection older than the peer's present protection was upgraded, clear packets pass
 * until GRACE is over or the first protected one came. "Later" means: the packet's look at
 * nd_secured began after the other's verdict; a packet that makes a clear flow counts from there.
 * And no stop without cause: outbound nothing waits unless the peer once was protected.
 *
 * Steps. A label in a packet's walk is one atomic step, as is one map operation or one section
 * under an entry's lock; between two of them anything may happen. A packet takes no time: the clock
 * ticks between packets. An entry that is removed while a packet holds a pointer to it is dead to
 * that packet (holds[]).
 *
 * Always holds, and is asserted: promise_out, promise_in, no_stop, nd0_has_sa. That a flow that waits goes on is pair.pml's.
 *
 * -DPROTO=TCP|UDP, -DROLE=SECURE|BOUNDARY, -DCPUS=1|2; BROKEN_... are faults that must be found.
 */
#define TCP 1
#define UDP 2
#define SECURE 1    /* ALE_AUTH_RECV_ACCEPT says INITIATE_SECURE */
#define BOUNDARY 2  /* it does not */

#ifndef CPUS
#define CPUS 1
#endif
#ifndef PROTO
#define PROTO TCP
#endif
#ifndef ROLE
#define ROLE SECURE
#endif

/* Ticks; what counts is their order: grace 10 s < idle 60 s < memory of a flow < of a peer. Grace
 * ends with the tick in which it began. */
#if CPUS == 1
#define IDLE 1
#define MEMORY 2
#elif PROTO == UDP
#define IDLE 0
#define MEMORY 1
#else
#define IDLE 0
#define MEMORY 0
#endif
#define PEER_MEMORY (MEMORY + 1)

/* enum nd_peer_state. To the tables what is not SECURED is one; pair.pml has all five. */
#define UNKNOWN 0
#define SECURED 1
#define NEGOTIATING UNKNOWN
#define LOST UNKNOWN
#ifdef BROKEN_NEGATIVE_CACHE
#define CLEAR 2
#else
#define CLEAR UNKNOWN
#endif

/* What a packet is to the tables. */
#define DATA 0
#define SYN 1
#define FIN 2
#define RST 3

/* ---- maps ---- */

/* nd_secured: the entry of the 5-tuple */
bool secured;          /* there is one */
bool secured_dead;     /* it is about to be removed; set under its lock, never taken back */
byte secured_age;      /* since last_seen */
bool upgraded;         /* from a clear flow that is older than the peer's protection, GRACE not over */
bool protected_rx;
bool fin_out, fin_in, reset;
#define ended (reset || (fin_out && fin_in))

/* nd_flows: clear flows, LRU */
bool flow;
bool flow_older;       /* first_seen < peer.secured_at */

/* nd_peers */
byte peer = UNKNOWN;   /* state */
bool was_secured;      /* secured_until != 0 */
bool still_secured;    /* secured_until == ~0 */
byte until_age;        /* since secured_until */

bool loaded = 1;       /* the programs are attached */

#ifdef BROKEN_FULL_PASSES
byte lost_age = MEMORY + 1; /* since nd_state.secured_lost_at */
#endif
#ifdef BROKEN_FLAGS_COPIED
bool flow_reset;
#endif

/* Whether reasons to pass, and unload, are asked for: here the tables alone must fail. */
#ifdef BROKEN_FULL_PASSES
#define EXEMPT false
#else
#define EXEMPT true
#endif

/* ---- SAs, the daemon ---- */
bool sa_in, sa_out;
bool torn;             /* the outbound SA went by itself (hard expiry, an engine that died) */
bool running = 1;      /* the daemon */

/* ---- CPUs ---- */
bool busy[2], holds[2];
#if CPUS == 1
#define nd0_has_sa (!protected || sa_out || torn)
#else
#define nd0_has_sa true
#endif
#define idle (!busy[0] && !busy[1])

/* ---- what an onlooker knows ---- */
bool shield;           /* the promise holds for the 5-tuple */
byte shield_age = MEMORY + 1; /* since a packet of either side */
bool o_fin_out, o_fin_in, o_reset;
bool o_grace;          /* clear packets may still be in flight */
bool o_clear, o_older; /* clear packets passed; and before the peer was secured */
bool o_ipsec;          /* the peer was protected at some time */
bool late[2];          /* the promise holds for the packet that the CPU has */
#define o_ended (o_reset || (o_fin_out && o_fin_in))

/* After an entry was made in nd_secured: the clear flow is over. Otherwise it would be one again, and
 * excuse clear packets by its grace, when the other is forgotten. */
inline take_over() {
	o_clear = 0; o_older = 0;
#ifndef BROKEN_SHADOW
	flow = 0; flow_older = 0
#else
	skip
#endif
}

/* BPF_NOEXIST: two CPUs make one entry. */
inline new_clear() {
	if
	:: !flow -> flow = 1; flow_older = 0
	:: else
	fi;
	o_clear = 1
}

inline remove_secured() {
	secured = 0; secured_dead = 0; secured_age = 0; upgraded = 0; protected_rx = 0;
	fin_out = 0; fin_in = 0; reset = 0;
	holds[0] = 0; holds[1] = 0;
}

inline shield_over() {
	shield = 0; shield_age = MEMORY + 1; o_fin_out = 0; o_fin_in = 0; o_reset = 0; o_grace = 0;
	late[0] = 0; late[1] = 0
}

/* The onlooker sees a packet of the 5-tuple protected. */
inline look_protected(out) {
	if
	:: kind == SYN && o_ended -> o_fin_out = 0; o_fin_in = 0; o_reset = 0
	:: else
	fi;
	if
	:: !shield && out -> o_grace = o_older
	:: !out -> o_grace = 0
	:: else
	fi;
	shield = 1; shield_age = 0; o_ipsec = 1;
	look_flags(out)
}

inline look_flags(out) {
	if
	:: kind == FIN && out -> o_fin_out = 1
	:: kind == FIN && !out -> o_fin_in = 1
	:: kind == RST -> o_reset = 1
	:: else
	fi
}

/* Under the entry's lock: the packet belongs to it. */
inline touch(out) {
	if
	:: kind == SYN && ended ->
		fin_out = 0; fin_in = 0; reset = 0; protected_rx = 0; upgraded = 0
#ifndef BROKEN_OLD_FLAGS
	:: !(kind == SYN && ended) && secured_age > MEMORY -> /* as if the sweeper had come first */
		fin_out = 0; fin_in = 0; reset = 0; protected_rx = 0; upgraded = 0
#endif
	:: else
	fi;
#ifdef BROKEN_WAITING_AGES
	if
	:: !out || protected -> secured_age = 0
	:: else
	fi;
#else
	secured_age = 0;
#endif
	if
#ifdef BROKEN_GRACE_AFTER_PROTECTED
	:: !out -> protected_rx = 1
#else
	:: !out -> protected_rx = 1; upgraded = 0
#endif
	:: else
	fi;
	if
	:: kind == FIN && out -> fin_out = 1
	:: kind == FIN && !out -> fin_in = 1
	:: kind == RST -> reset = 1
	:: else
	fi
}

#ifdef BROKEN_OWN_SYN
#define ANY_SYN true
#else
#define ANY_SYN false
#endif

#if PROTO == TCP
#define opens (kind == SYN)
#else
#ifdef BROKEN_FULL_PASSES
#define opens (!still_secured && until_age > IDLE && lost_age > MEMORY)
#else
#define opens (!still_secured && until_age > IDLE)
#endif
#endif

inline choose() {
#if PROTO == TCP
	if
	:: kind = DATA
	:: kind = SYN
	:: kind = RST
#if CPUS == 1
	:: kind = FIN
#endif
	fi
#else
	kind = DATA
#endif
}

inline done() {
	kind = 0; late[me] = 0; found = 0; known = 0; protected = 0;
	holds[me] = 0; busy[me] = 0
}

proctype cpu(byte me) {
	byte kind;
	bool found, known, protected;

end:	do
#if CPUS == 1
	/* ---- not loaded: nobody looks ---- */
	:: atomic { !loaded ->
		choose();
		if
		:: kind == SYN && o_ended -> shield_over()
		:: else
		fi;
		assert(!shield); /* promise_out */
		done()
	}
#endif

	/* ---- outbound, TC egress ---- */
	:: atomic { loaded ->
		busy[me] = 1;
		choose();
		late[me] = shield && !(kind == SYN && o_ended);
#ifdef BROKEN_LATCH_AGES
		found = secured && secured_age < MEMORY; holds[me] = found
#else
		found = secured; holds[me] = secured
#endif
	};
		if
#ifdef BROKEN_ADDRESSES_FIRST
		:: atomic { assert(!late[me]); done() }
#endif
		:: found -> /* row 0 */
			d_step { protected = peer == SECURED; assert(nd0_has_sa) };
			if
			:: d_step { !holds[me] || secured_dead -> done() } /* waits: the entry goes this instant */
#ifdef BROKEN_NEGATIVE_CACHE
			:: atomic { peer == CLEAR && !protected -> assert(!late[me]); done() }
#endif
#ifdef BROKEN_END_RACE
			:: d_step { holds[me] && !secured_dead && kind == SYN && ended && !protected -> found = 0 };
				d_step {
					if
					:: o_ended -> shield_over()
					:: else
					fi;
					remove_secured()
				};
#else
			:: d_step { holds[me] && !secured_dead && kind == SYN && (ended || ANY_SYN) && !protected ->
				secured_dead = 1; found = 0;
				if
				:: o_ended -> shield_over()
				:: else
				fi
			};
				d_step { remove_secured() };
#endif
				goto new_flow
			:: d_step { holds[me] && !secured_dead && !(kind == SYN && (ended || ANY_SYN) && !protected) ->
				touch(1);
				if
				:: protected -> look_protected(1)
				:: !protected -> shield_age = 0; look_flags(1); assert(o_ipsec) /* no_stop */
				fi
			};
				if
				:: atomic { protected -> done() }
				:: atomic { !protected -> done() } /* waits */
				fi
			fi
		:: !found ->
			if
			:: atomic { EXEMPT -> assert(!late[me]); o_clear = 1; done() } /* row 1: a reason to pass */
			:: d_step { known = flow };
				d_step { protected = peer == SECURED; assert(nd0_has_sa) };
				if
				:: atomic { protected -> /* row 2 */
					if
					:: !secured -> /* no room */
#ifdef BROKEN_FULL_PASSES
						lost_age = 0; look_protected(1)
#else
						skip /* waits: nothing is protected that can't be remembered */
#endif
					:: !secured ->
						secured = 1;
#ifdef BROKEN_GRACE_FOR_NEW
						upgraded = flow;
#else
						upgraded = flow && flow_older;
#endif
#ifdef BROKEN_FLAGS_COPIED
						reset = flow_reset;
#endif
						touch(1); look_protected(1)
					:: secured && secured_dead -> skip
					:: secured && !secured_dead -> touch(1); look_protected(1)
					fi };
					d_step {
						if
						:: secured -> take_over()
						:: else
						fi;
						done()
					}
				:: atomic { !protected && !known && was_secured && !opens -> /* row 3 */
					assert(o_ipsec); /* no_stop */
#ifdef BROKEN_FULL_PASSES
					if
					:: lost_age <= MEMORY && !secured -> lost_age = 0
					:: lost_age <= MEMORY && !secured -> secured = 1; touch(1)
					:: else
					fi;
#endif
					done()
				}
				:: d_step { !protected && (known || !was_secured || opens) -> skip }; /* row 4 */
					if
#ifdef BROKEN_HOLDS
					:: atomic { assert(o_ipsec) /* no_stop */; done() }
#endif
					:: atomic { known -> assert(!late[me]) /* promise_out */; o_clear = 1; done() }
					:: !known ->
new_flow:					atomic {
							new_clear();
							late[me] = shield && !(kind == SYN && o_ended)
						};
						atomic { /* the second look */
							if
#ifdef BROKEN_ONE_LOOK_OUT
							:: secured -> assert(!late[me])
#endif
							:: secured -> take_over() /* waits; the next one finds it by row 0 */
							:: !secured -> assert(!late[me]) /* promise_out */
							fi;
							done()
						}
					fi
				fi
			fi
		fi

	/* ---- inbound, decrypted ---- */
	:: atomic { loaded && sa_in ->
		busy[me] = 1;
		choose();
		found = secured; holds[me] = secured
	};
		atomic {
			if
			:: found && (!holds[me] || secured_dead) -> skip /* dropped */
			:: found && holds[me] && !secured_dead -> touch(0); look_protected(0)
#ifdef BROKEN_FULL_DELIVERS
			:: !found && !secured -> look_protected(0)
#else
			:: !found && !secured -> skip /* no room: dropped */
#endif
			:: !found && !secured -> secured = 1; touch(0); look_protected(0)
			:: !found && secured && secured_dead -> skip
			:: !found && secured && !secured_dead -> touch(0); look_protected(0)
			fi
		};
		d_step {
			if
			:: !found && secured -> take_over()
			:: else
			fi;
			done()
		}

	/* ---- inbound, in clear ---- */
	:: atomic { loaded ->
		busy[me] = 1;
		choose();
		late[me] = shield && !o_grace;
		found = secured;
#ifdef BROKEN_GRACE_AFTER_PROTECTED
		known = upgraded
#else
		known = upgraded && !protected_rx
#endif
	};
		if
		:: atomic { found -> /* row 0 */
			assert(!known || !late[me]); /* promise_in */
#ifdef BROKEN_CLEAR_RST
			reset = reset || kind == RST;
#endif
#ifdef BROKEN_CLEAR_SYN
			if
			:: kind == SYN && ended -> remove_secured()
			:: else
			fi;
#endif
			done()
		}
		:: atomic { !found && EXEMPT -> assert(!late[me]); o_clear = 1; done() } /* row 1 */
		:: d_step { !found -> known = flow };
			if
			:: atomic { known -> /* row 2 */
				assert(!late[me]); /* promise_in */
				o_clear = 1;
#ifdef BROKEN_FLAGS_COPIED
				flow_reset = kind == RST;
#endif
#ifdef BROKEN_CLEAR_LATCHES
				secured = 1;
#endif
				done()
			}
			:: atomic { !known -> done() } /* row 3; where it need not, a filter may block it */
			:: d_step { !known && !(was_secured && !opens) && ROLE == BOUNDARY -> skip };
				d_step { new_clear(); late[me] = shield && !o_grace };
				atomic { /* the second look */
					if
#ifdef BROKEN_ONE_LOOK_IN
					:: secured -> assert(!late[me])
#endif
					:: secured -> take_over()
					:: !secured -> assert(!late[me]) /* promise_in */
					fi;
					done()
				}
			fi
		fi
	od
}

inline tear() {
#if CPUS == 1
	torn = torn || sa_out
#else
	skip
#endif
}

/* The daemon's record is what it wrote last; it is one event loop, so one thing at a time. */
inline set_lost() {
	if
	:: peer == SECURED || still_secured -> peer = LOST; still_secured = 0; until_age = 0
	:: else
	fi
}

proctype daemon() {
end:	do
	/* A negotiation, asked for by an event or by the peer. */
	:: atomic { running && peer != SECURED -> peer = NEGOTIATING; sa_in = 1 };
		if
#ifdef BROKEN_SECURED_FIRST
		:: d_step { running && sa_in -> torn = 0 };
#else
		:: d_step { running && sa_in -> sa_out = 1; torn = 0 };
#endif
			if
#ifdef BROKEN_SECURED_FIRST
			:: d_step { running && sa_in ->
#else
			:: d_step { running && sa_out ->
#endif
				peer = SECURED; was_secured = 1; still_secured = 1; until_age = 0;
				flow_older = flow; o_older = o_clear; o_ipsec = 1
			}
			:: !running || !sa_out
			fi
		:: d_step { running -> sa_in = 0; peer = CLEAR }
		:: !running
		fi
	/* It fails without an SA. */
	:: d_step { running && peer != SECURED -> peer = CLEAR; sa_in = 0; sa_out = 0 }
	/* Expiry, a delete, the kernel took it. */
#ifdef BROKEN_SA_FIRST
	:: d_step { running && peer == SECURED -> sa_out = 0; sa_in = 0 };
		if
		:: d_step { running -> set_lost() }
#else
	:: d_step { running && peer == SECURED -> set_lost() };
		if
		:: d_step { running -> sa_out = 0; sa_in = 0 }
#endif
		:: !running
		fi
	/* Forgets. */
	:: d_step { running && peer != SECURED && !still_secured && (!was_secured || until_age > PEER_MEMORY) ->
		peer = UNKNOWN; was_secured = 0; until_age = 0 }
	/* A new daemon adopts. */
	:: d_step { !running -> running = 1; torn = 0;
#ifdef BROKEN_RESTART_EMPTIES
		remove_secured();
#endif
		if
#ifdef BROKEN_RESTART_BELIEVES
		:: peer == SECURED
#endif
		:: sa_in && sa_out && was_secured ->
			peer = SECURED; still_secured = 1; flow_older = flow; o_older = o_clear
		:: else ->
			set_lost(); sa_in = 0; sa_out = 0;
			if
			:: was_secured -> peer = LOST
			:: else -> peer = UNKNOWN
			fi
		fi }
	od
}

/* Runs in the kernel, to its end: a daemon that dies leaves no entry half removed. */
proctype sweeper() {
end:	do
#ifdef BROKEN_SWEEP_RACE
	:: secured && secured_age > MEMORY;
#else
	:: d_step { secured && !secured_dead && secured_age > MEMORY -> secured_dead = 1 };
#endif
		d_step { remove_secured() }
	od
}

#ifdef BROKEN_UNLOAD
#define UNLOAD_ALWAYS true
#else
#define UNLOAD_ALWAYS false
#endif

proctype world() {
end:	do
	/* The clock. */
	:: d_step { idle && !secured_dead ->
#ifndef BROKEN_GRACE_ENDLESS
		upgraded = 0;
#endif
#ifdef BROKEN_FULL_PASSES
		if
		:: lost_age <= MEMORY -> lost_age++
		:: else
		fi;
#endif
		o_grace = 0;
		if
		:: secured && secured_age <= MEMORY -> secured_age++
		:: else
		fi;
		if
		:: was_secured && !still_secured && until_age <= PEER_MEMORY -> until_age++
		:: else
		fi;
		if
		:: shield_age <= MEMORY -> shield_age++
		:: else
		fi;
		if
		:: shield_age > MEMORY -> shield_over()
		:: else
		fi }
#ifdef BROKEN_LRU
	:: d_step { secured && !secured_dead -> remove_secured() }
#endif
	/* LRU. */
	:: d_step { flow -> flow = 0; flow_older = 0 }
	/* Hard expiry, somebody's `ip xfrm state flush`. */
	:: d_step { sa_out -> tear(); sa_out = 0; sa_in = 0 }
	/* The daemon dies, its engine with it or not. */
	:: d_step { running -> running = 0 }
	:: d_step { running -> running = 0; tear(); sa_in = 0; sa_out = 0 }
#if CPUS == 1
	/* unload, and a load later */
	:: d_step { EXEMPT && loaded && !running && idle && !sa_in && !sa_out && (!secured || UNLOAD_ALWAYS) ->
		loaded = 0; remove_secured(); flow = 0; flow_older = 0; peer = UNKNOWN; was_secured = 0; still_secured = 0; until_age = 0;
		torn = 0 }
	:: d_step { !loaded -> loaded = 1 }
#endif
	od
}

init {
	atomic { run cpu(0);
#if CPUS == 2
	run cpu(1);
#endif
	 run daemon(); run sweeper(); run world() }
}
