#include "CNDObjects.h"

/* `make bpf` writes it; a missing file means that step was skipped. */
_Alignas(16) static const unsigned char tc[] = {
#pragma clang diagnostic ignored "-Wc23-extensions"
#embed "../../bpf/build/nd_tc.bpf.o"
};

_Alignas(16) static const unsigned char reference[] = {
#pragma clang diagnostic ignored "-Wc23-extensions"
#embed "../../bpf/build/nd_floor.bpf.o"
};

_Alignas(16) static const unsigned char ask[] = {
#pragma clang diagnostic ignored "-Wc23-extensions"
#embed "../../bpf/build/nd_ask.bpf.o"
};

_Alignas(16) static const unsigned char at_socket[] = {
#pragma clang diagnostic ignored "-Wc23-extensions"
#embed "../../bpf/build/nd_socket.bpf.o"
};

_Alignas(16) static const unsigned char guard[] = {
#pragma clang diagnostic ignored "-Wc23-extensions"
#embed "../../bpf/build/nd_guard.bpf.o"
};

_Alignas(16) static const unsigned char hook[] = {
#pragma clang diagnostic ignored "-Wc23-extensions"
#embed "../../bpf/build/nd_hook.bpf.o"
};

const void *nd_object_guard(size_t *size)
{
	*size = sizeof(guard);
	return guard;
}

const void *nd_object_hook(size_t *size)
{
	*size = sizeof(hook);
	return hook;
}

const void *nd_object_socket(size_t *size)
{
	*size = sizeof(at_socket);
	return at_socket;
}

const void *nd_object_ask(size_t *size)
{
	*size = sizeof(ask);
	return ask;
}

const void *nd_object_floor(size_t *size)
{
	*size = sizeof(reference);
	return reference;
}

const void *nd_object_tc(size_t *size)
{
	*size = sizeof(tc);
	return tc;
}

static const unsigned char scenarios[] = {
#pragma clang diagnostic ignored "-Wc23-extensions"
#embed "../../bpf/build/scenarios.tar"
};

const void *nd_object_scenarios(size_t *size)
{
	*size = sizeof(scenarios);
	return scenarios;
}
