#ifndef CNDABI_H
#define CNDABI_H

#include "../../../bpf/nd.h"
#include "../../../bpf/nd_ask.h"
#include "../../../bpf/nd_callout.h"

/* Labels and meanings of nd.h's lists; NULL for a number outside the list. */
const char *nd_drop_label(unsigned value);
const char *nd_drop_help(unsigned value);
const char *nd_pass_label(unsigned value);
const char *nd_pass_help(unsigned value);
const char *nd_peer_state_label(unsigned value);
const char *nd_event_label(unsigned value);
const char *nd_layer_label(unsigned value);
const char *nd_action_label(unsigned value);
const char *nd_action_help(unsigned value);
const char *nd_field_label(unsigned value);

#endif
