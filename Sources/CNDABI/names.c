#include "CNDABI.h"

#define ND_LABEL(n, l, h) l,
#define ND_HELP(n, l, h) h,

#define ND_LOOKUP(function, LIST, FIELD)                                     \
	const char *function(unsigned value)                                 \
	{                                                                    \
		static const char *const names[] = { LIST(FIELD) };          \
		return value < sizeof(names) / sizeof(*names) ? names[value] \
							      : 0;           \
	}

ND_LOOKUP(nd_drop_label, ND_DROP_REASONS, ND_LABEL)
ND_LOOKUP(nd_drop_help, ND_DROP_REASONS, ND_HELP)
ND_LOOKUP(nd_pass_label, ND_PASS_KINDS, ND_LABEL)
ND_LOOKUP(nd_pass_help, ND_PASS_KINDS, ND_HELP)
ND_LOOKUP(nd_peer_state_label, ND_PEER_STATES, ND_LABEL)
ND_LOOKUP(nd_event_label, ND_EVENT_TYPES, ND_LABEL)
ND_LOOKUP(nd_layer_label, ND_LAYERS, ND_LABEL)
ND_LOOKUP(nd_action_label, ND_ACTIONS, ND_LABEL)
ND_LOOKUP(nd_action_help, ND_ACTIONS, ND_HELP)
ND_LOOKUP(nd_field_label, ND_FIELDS, ND_LABEL)
