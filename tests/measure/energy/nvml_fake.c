/* A pretend NVML with a known true power.
 *
 * Built by the tests as a shared library with the SONAME of the real one and loaded by the real nvidia-ml-py.
 * True power is constant in pieces, so true energy is exact; what the calls say about it goes through sensors
 * with update periods, windows and defects that the tests set. Time is virtual (set by the test) or the
 * monotonic clock. Nothing here describes a particular device.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, BAD_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, TOO_SMALL = 7, LOST = 15, BAD_VERSION = 25 };
enum { PIECES = 65536, DEVICES = 2 };

typedef struct { int index; } Device;
typedef union { double d; unsigned ui; unsigned long ul; unsigned long long ull; long long sll; int si; } Value;
typedef struct {
    uint32_t field, scope;
    int64_t stamp_us, latency_us;
    int32_t type, result;
    Value value;
} Field;
_Static_assert(sizeof(Field) == 40, "nvmlFieldValue_t has 40 bytes");
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory2;
typedef struct { unsigned version; int sensor, celsius; } Temperature1;
typedef struct { unsigned version; int margin; } Margin1;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned pid; unsigned long long memory; unsigned gi, ci; } Process3;

static Device devices[DEVICES] = {{0}, {1}};
static double ends[PIECES], watts[PIECES], sums[PIECES];
static int pieces;
static double virtual_now, started;
static double power_period, power_window, average_window, counter_period, counter_phase, power_phase, lag;
static double continuous, range_j, reset_at, stuck, has_counter, has_instant, has_average, gpu_scope, mig;
static double foreign_pid, second_pid, second_mig, fields_result, closed, no_counter_call, no_power_call, counter_delay, lost_at, zero_at, celsius, margin, reasons, clock_mhz, count, virtual_time;

static const struct { const char *name; double *at, usual; } SETTINGS[] = {
    {"power_period", &power_period, 0.1},   {"power_window", &power_window, 0.025},
    {"average_window", &average_window, 1}, {"counter_period", &counter_period, 0.1},
    {"counter_phase", &counter_phase, 0},   {"power_phase", &power_phase, 0},
    {"lag", &lag, 0},                       {"continuous", &continuous, 1},
    {"range_j", &range_j, 0},               {"reset_at", &reset_at, -1},
    {"stuck", &stuck, 0},                   {"has_counter", &has_counter, 1},
    {"has_instant", &has_instant, 1},       {"has_average", &has_average, 1},
    {"gpu_scope", &gpu_scope, 1},           {"mig", &mig, 0},
    {"foreign_pid", &foreign_pid, 0},       {"lost_at", &lost_at, -1},
    {"second_pid", &second_pid, 0},         {"second_mig", &second_mig, 0},
    {"fields_result", &fields_result, 0},   {"closed", &closed, -1},
    {"no_counter_call", &no_counter_call, 0}, {"no_power_call", &no_power_call, 0},
    {"counter_delay", &counter_delay, 0},
    {"zero_at", &zero_at, -1},              {"celsius", &celsius, 45},
    {"margin", &margin, 42},                {"reasons", &reasons, 0},
    {"clock_mhz", &clock_mhz, 1980},        {"count", &count, 1},
    {"virtual_time", &virtual_time, 1},
};

static double monotonic(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double now(void) { return virtual_time != 0 ? virtual_now : monotonic() - started; }

/* Settings by name; -1 for an unknown one, so that a typo in a test shows. */
int fake_set(const char *name, double value) {
    for (size_t i = 0; i < sizeof SETTINGS / sizeof SETTINGS[0]; i++)
        if (!strcmp(SETTINGS[i].name, name)) { *SETTINGS[i].at = value; return 0; }
    return -1;
}

void fake_reset(void) {
    for (size_t i = 0; i < sizeof SETTINGS / sizeof SETTINGS[0]; i++) *SETTINGS[i].at = SETTINGS[i].usual;
    pieces = 0;
    virtual_now = 0;
    started = monotonic();
}

void fake_time(double seconds) { virtual_now = seconds; }

/* True power: `w[i]` until `until[i]`; the last piece goes on for ever, the first one began long ago. */
int fake_power(int n, const double *until, const double *w) {
    if (n < 1 || n > PIECES) return -1;
    double sum = 0, from = 0;
    for (int i = 0; i < n; i++) {
        ends[i] = until[i];
        watts[i] = w[i];
        sum += (until[i] - from) * w[i];
        sums[i] = sum;
        from = until[i];
    }
    pieces = n;
    return 0;
}

/* Work from `begin` to `end` at `w`, with `idle` before it and for ever after it. */
int fake_work(double begin, double end, double w, double idle) {
    if (pieces + 3 > PIECES) return -1;
    if (pieces) pieces--; /* the piece that went on for ever ends where this work begins */
    double from = pieces ? ends[pieces - 1] : 0, sum = pieces ? sums[pieces - 1] : 0;
    const double until[3] = {begin, end, end + 1e6}, power[3] = {idle, w, idle};
    for (int i = 0; i < 3; i++) {
        if (until[i] <= from) continue;
        sum += (until[i] - from) * power[i];
        ends[pieces] = until[i];
        watts[pieces] = power[i];
        sums[pieces++] = sum;
        from = until[i];
    }
    return 0;
}

static int piece_at(double t) {
    int low = 0, high = pieces - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (ends[middle] > t) high = middle; else low = middle + 1;
    }
    return low;
}

/* True joules from time 0, negative before it. */
double fake_true_j(double t) {
    if (!pieces) return 0;
    if (t <= 0) return t * watts[0];
    int at = piece_at(t);
    double from = at ? ends[at - 1] : 0, before = at ? sums[at - 1] : 0;
    return before + (t - from) * watts[at];
}

static double updated(double t, double period, double phase) {
    return floor((t - phase) / period + 1e-9) * period + phase;
}

static double lagged(double t) {
    double state = watts[0], from = 0;
    for (int i = 0; i < pieces && from < t; i++) {
        double until = ends[i] < t && i < pieces - 1 ? ends[i] : t;
        state += (watts[i] - state) * (1 - exp(-(until - from) / lag));
        from = until;
    }
    return state;
}

static double sensed(double t, double window) {
    double at = updated(t, power_period, power_phase);
    if (lag > 0) return lagged(at);
    return (fake_true_j(at) - fake_true_j(at - window)) / window;
}

static double counted(double t) {
    double at = updated(stuck != 0 ? 0 : t, counter_period, counter_phase) - counter_delay;
    double joules;
    if (continuous != 0) {
        joules = fake_true_j(at);
    } else {
        /* Adds up only what the power sensor sees: one window a period. */
        static double sum, tick = -1, of_period, of_phase;
        if (tick < 0 || at < tick || of_period != power_period || of_phase != counter_phase) {
            sum = 0; tick = counter_phase; of_period = power_period; of_phase = counter_phase;
        }
        while (tick + power_period <= at + 1e-9) {
            tick += power_period;
            sum += (fake_true_j(tick) - fake_true_j(tick - power_window)) / power_window * power_period;
        }
        joules = sum;
    }
    if (reset_at >= 0 && at >= reset_at) return joules - fake_true_j(reset_at);
    joules += 1000;
    return range_j > 0 ? fmod(joules, range_j) : joules;
}

/* Many readings at once: counter and power at each time, exactly as the calls below would give them. */
void fake_read_many(int n, const double *times, double *counter_j, double *power_w) {
    for (int i = 0; i < n; i++) {
        counter_j[i] = floor(counted(times[i]) * 1e3 + 0.5) / 1e3;
        power_w[i] = floor(sensed(times[i], power_window) * 1e3 + 0.5) / 1e3;
    }
}

/* `key value` and `piece until watts`, one a line, for processes the test does not share memory with. */
static void configure(void) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return;
    static double until[PIECES], w[PIECES];
    char key[64];
    double a, b;
    int n = 0;
    fake_reset();
    while (fscanf(file, "%63s %lf", key, &a) == 2) {
        if (strcmp(key, "piece")) fake_set(key, a);
        else if (fscanf(file, "%lf", &b) == 1 && n < PIECES) { until[n] = a; w[n++] = b; }
    }
    fclose(file);
    if (n) fake_power(n, until, w);
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; configure(); return OK; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int result) { (void)result; return "an error of the pretend library"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "580.00.fake"); return OK; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = (unsigned)count; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, Device **device) {
    if (i >= (unsigned)count) return NOT_FOUND;
    if ((int)i == (int)closed) return NO_PERMISSION;
    *device = &devices[i];
    return OK;
}
int nvmlDeviceGetUUID(Device *device, char *text, unsigned size) {
    snprintf(text, size, "GPU-00000000-fake-0000-0000-00000000000%d", device->index);
    return OK;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, Device **device) {
    char own[96];
    for (int i = 0; i < (int)count; i++) {
        nvmlDeviceGetUUID(&devices[i], own, sizeof own);
        if (!strcmp(own, uuid)) { *device = &devices[i]; return OK; }
    }
    return NOT_FOUND;
}
int nvmlDeviceGetName(Device *device, char *text, unsigned size) {
    (void)device; snprintf(text, size, "Pretend H100"); return OK;
}
int nvmlDeviceGetArchitecture(Device *device, unsigned *found) { (void)device; *found = 9; return OK; }

static int lost(void) { return lost_at >= 0 && now() >= lost_at; }
/* The second device idles at 50 W, so that counting it too is seen. */
static double counter_of(Device *device) { return device->index ? 50 * now() + 1 : counted(now()); }
static double power_of(Device *device, double window) { return device->index ? 50 : sensed(now(), window); }

int nvmlDeviceGetPowerUsage(Device *device, unsigned *milliwatts) {
    if (lost()) return LOST;
    if (no_power_call != 0) return NOT_SUPPORTED;
    *milliwatts = (unsigned)(power_of(device, average_window) * 1e3 + 0.5);
    return OK;
}
int nvmlDeviceGetTotalEnergyConsumption(Device *device, unsigned long long *millijoules) {
    if (lost()) return LOST;
    if (has_counter == 0 || no_counter_call != 0) return NOT_SUPPORTED;
    *millijoules = (unsigned long long)(counter_of(device) * 1e3 + 0.5);
    return OK;
}
int nvmlDeviceGetFieldValues(Device *device, int n, Field *fields) {
    if (lost()) return LOST;
    if (fields_result != 0) return (int)fields_result;
    for (int i = 0; i < n; i++) {
        Field *f = &fields[i];
        f->stamp_us = (int64_t)(now() * 1e6);
        f->result = OK;
        int scoped = f->scope == 0 ? gpu_scope != 0 : f->scope == 1;
        if (f->field == 83 && has_counter != 0) {
            f->type = 3;
            f->value.ull = (unsigned long long)(counter_of(device) * 1e3 + 0.5);
            if (zero_at >= 0 && fabs(now() - zero_at) < 0.005) f->value.ull = 0;
        } else if (f->field == 186 && has_instant != 0 && scoped) {
            f->type = 1;
            f->value.ui = (unsigned)(power_of(device, power_window) * 1e3 + 0.5);
        } else if (f->field == 185 && has_average != 0 && scoped) {
            f->type = 1;
            f->value.ui = (unsigned)(power_of(device, average_window) * 1e3 + 0.5);
        } else {
            f->result = NOT_SUPPORTED;
        }
    }
    return OK;
}
int nvmlDeviceGetTemperatureV(Device *device, Temperature1 *found) {
    (void)device;
    if (found->version != 0x100000C) return BAD_VERSION;
    found->celsius = (int)celsius;
    return OK;
}
int nvmlDeviceGetTemperature(Device *device, int sensor, unsigned *found) {
    (void)device; (void)sensor; *found = (unsigned)celsius; return OK;
}
int nvmlDeviceGetTemperatureThreshold(Device *device, int kind, unsigned *found) {
    (void)device; (void)kind; (void)found; return NOT_SUPPORTED;
}
int nvmlDeviceGetMarginTemperature(Device *device, Margin1 *found) {
    (void)device;
    if (found->version != 0x1000008) return BAD_VERSION;
    found->margin = (int)margin;
    return OK;
}
int nvmlDeviceGetCurrentClocksEventReasons(Device *device, unsigned long long *found) {
    (void)device; *found = (unsigned long long)reasons; return OK;
}
int nvmlDeviceGetUtilizationRates(Device *device, Utilization *found) {
    (void)device; found->gpu = 97; found->memory = 41; return OK;
}
int nvmlDeviceGetMemoryInfo_v2(Device *device, Memory2 *found) {
    (void)device;
    if (found->version != 0x02000028) return BAD_VERSION;
    found->total = 80ull << 30; found->reserved = 1ull << 30; found->used = 20ull << 30;
    found->free = 59ull << 30;
    return OK;
}
int nvmlDeviceGetClockInfo(Device *device, int kind, unsigned *mhz) {
    (void)device; *mhz = kind == 1 ? (unsigned)clock_mhz : 2619; return OK;
}
int nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending) {
    *current = *pending = device->index ? second_mig != 0 : mig != 0; return OK;
}
int nvmlDeviceGetEnforcedPowerLimit(Device *device, unsigned *milliwatts) {
    (void)device; *milliwatts = 700000; return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned *n, Process3 *found) {
    double pid = device->index ? second_pid : foreign_pid;
    if (pid == 0) { *n = 0; return OK; }
    if (!found) { *n = 1; return TOO_SMALL; }
    *n = 1;
    found[0].pid = (unsigned)pid;
    found[0].memory = 1 << 20;
    return OK;
}
