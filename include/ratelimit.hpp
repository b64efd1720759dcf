/// ratelimit for C++17: a header over ratelimit.h that owns what has to be closed and adds types.
///
///     #include <ratelimit.hpp>
///
///     ratelimit::Limiter limiter("100/minute");
///     if (limiter.is_allowed("client-7")) { ... }
///
/// Decisions are noexcept and never throw for a denial. Only making a Config or a Limiter throws, and what it throws has the code.
/// A call that cannot be done (a limiter that was moved away, or closed) fails open: it is allowed, and `Decision::result` says why.
#ifndef RATELIMIT_HPP
#define RATELIMIT_HPP

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ratelimit.h"

namespace ratelimit {

using Result = ::ratelimit_result;
using Duration = std::chrono::nanoseconds;

/// A retry_after that says never, and a timeout without end.
inline constexpr Duration never = Duration::max();

/// The sentence about this thread's last error, which says what to do.
inline std::string last_error_message() {
    std::array<char, 1024> buffer{};
    std::size_t needed = 0;
    if (ratelimit_last_error_message(buffer.data(), buffer.size(), &needed) != RATELIMIT_OK) {
        return {};
    }
    return std::string(buffer.data());
}

/// Why a Config or a Limiter could not be made.
class Error : public std::runtime_error {
  public:
    explicit Error(Result result) : std::runtime_error(last_error_message()), result_(result) {}

    /// The code, equal in every language below 1000.
    Result code() const noexcept { return result_; }

    /// The code's name, as "invalid_limit".
    const char *name() const noexcept { return ratelimit_result_name(result_); }

  private:
    Result result_;
};

namespace detail {

inline void check(Result result) {
    if (result != RATELIMIT_OK) {
        throw Error(result);
    }
}

inline constexpr std::uint64_t nanoseconds(Duration duration) noexcept {
    return duration == never ? RATELIMIT_NEVER : duration.count() < 0 ? 0 : static_cast<std::uint64_t>(duration.count());
}

inline constexpr Duration duration(std::uint64_t ns) noexcept {
    return ns > static_cast<std::uint64_t>(Duration::max().count()) ? never : Duration(static_cast<std::int64_t>(ns));
}

template <typename T> using byte_of = std::remove_cv_t<std::remove_pointer_t<decltype(std::declval<const T &>().data())>>;

template <typename T, typename = void> struct is_bytes : std::false_type {};
template <typename T>
struct is_bytes<T, std::void_t<decltype(std::declval<const T &>().data()), decltype(std::declval<const T &>().size())>>
    : std::bool_constant<sizeof(byte_of<T>) == 1 && std::is_trivially_copyable_v<byte_of<T>>> {};

} // namespace detail

/// The bytes that a client is known by: a text, a pointer and a size, or whatever has data() and size() of bytes (std::string,
/// std::vector<std::byte>, std::span<const std::uint8_t>). Refers to them, and so must not outlive them.
class Key {
  public:
    constexpr Key(std::string_view text) noexcept : data_(text.data()), size_(text.size()) {}
    constexpr Key(const char *text) noexcept : Key(std::string_view(text)) {}
    constexpr Key(const void *data, std::size_t size) noexcept : data_(data), size_(size) {}
    template <typename T, typename = std::enable_if_t<detail::is_bytes<T>::value && !std::is_same_v<T, std::string_view>>>
    constexpr Key(const T &bytes) noexcept : data_(bytes.data()), size_(bytes.size()) {}

    const std::uint8_t *data() const noexcept { return static_cast<const std::uint8_t *>(data_); }
    std::size_t size() const noexcept { return size_; }

  private:
    const void *data_;
    std::size_t size_;
};

/// The answer to one request.
struct Decision {
    /// Whether the request may go on.
    bool allowed = true;
    /// The burst: the most requests that can be allowed at one instant.
    std::uint64_t limit = 0;
    /// How many requests of cost 1 would be allowed now, after this one.
    std::uint64_t remaining = 0;
    /// Zero if allowed; otherwise the time until this cost fits, or `never`.
    Duration retry_after{0};
    /// The time until the full burst is available again.
    Duration reset_after{0};
    /// RATELIMIT_OK, or why nothing was decided; `allowed` is true then.
    Result result = RATELIMIT_OK;

    explicit operator bool() const noexcept { return allowed; }
};

/// The options of a limiter. Setters throw Error and return the config, to be chained.
class Config {
  public:
    /// A limit as text, as "100/minute burst 20".
    explicit Config(const char *limit) { detail::check(ratelimit_config_parse(limit, &config_)); }
    explicit Config(const std::string &limit) : Config(limit.c_str()) {}

    /// `rate_limit` requests per window; what makes no limit is thrown when the limiter is made.
    Config(std::uint64_t rate_limit, Duration time_window)
        : config_(ratelimit_config_new(rate_limit, detail::nanoseconds(time_window))) {
        if (config_ == nullptr) {
            throw Error(RATELIMIT_ERR_HANDLES);
        }
    }

    Config(Config &&other) noexcept : config_(std::exchange(other.config_, nullptr)) {}
    Config &operator=(Config &&other) noexcept {
        std::swap(config_, other.config_);
        return *this;
    }
    Config(const Config &) = delete;
    Config &operator=(const Config &) = delete;
    ~Config() { static_cast<void>(ratelimit_config_free(config_)); }

    Config &add_limit(const char *limit) { return done(ratelimit_config_add_limit(config_, limit)); }
    Config &burst(std::uint64_t burst) { return done(ratelimit_config_set_burst(config_, burst)); }
    Config &strict(bool strict = true) { return done(ratelimit_config_set_strict(config_, strict)); }
    Config &max_keys(std::uint64_t max_keys) { return done(ratelimit_config_set_max_keys(config_, max_keys)); }
    Config &path(const char *path) { return done(ratelimit_config_set_path(config_, path)); }
    Config &snapshot_every(Duration every) {
        return done(ratelimit_config_set_snapshot_every(config_, detail::nanoseconds(every)));
    }
    Config &restore(const char *restore) { return done(ratelimit_config_set_restore(config_, restore)); }
    Config &share(const char *name) { return done(ratelimit_config_set_share(config_, name)); }
    /// For this process and those that it forks.
    Config &share() { return done(ratelimit_config_set_share(config_, nullptr)); }
    Config &replace_limits(bool replace = true) { return done(ratelimit_config_set_replace_limits(config_, replace)); }
    Config &clock(const char *clock) { return done(ratelimit_config_set_clock(config_, clock)); }
    Config &overflow(const char *overflow) { return done(ratelimit_config_set_overflow(config_, overflow)); }
    Config &hash_key(const char *hex) { return done(ratelimit_config_set_hash_key(config_, hex)); }

    /// One node of several that keep one limit; lists are texts with commas between.
    Config &cluster_node(const char *name) { return done(ratelimit_config_set_cluster_node(config_, name)); }
    Config &cluster_listen(const char *address) { return done(ratelimit_config_set_cluster_listen(config_, address)); }
    Config &cluster_advertise(const char *address) {
        return done(ratelimit_config_set_cluster_advertise(config_, address));
    }
    Config &cluster_seeds(const char *addresses) {
        return done(ratelimit_config_set_cluster_seeds(config_, addresses));
    }
    Config &cluster_certs(const char *directory) {
        return done(ratelimit_config_set_cluster_certs(config_, directory));
    }
    Config &cluster_ca(const char *pem_or_file) { return done(ratelimit_config_set_cluster_ca(config_, pem_or_file)); }
    Config &cluster_cert(const char *pem_or_file) {
        return done(ratelimit_config_set_cluster_cert(config_, pem_or_file));
    }
    Config &cluster_key(const char *pem_or_file) {
        return done(ratelimit_config_set_cluster_key(config_, pem_or_file));
    }
    Config &cluster_secret(const char *hex_or_file) {
        return done(ratelimit_config_set_cluster_secret(config_, hex_or_file));
    }
    Config &cluster_mode(const char *mode) { return done(ratelimit_config_set_cluster_mode(config_, mode)); }
    Config &cluster_owners(const char *names) { return done(ratelimit_config_set_cluster_owners(config_, names)); }
    Config &cluster_on_partition(const char *what) {
        return done(ratelimit_config_set_cluster_on_partition(config_, what));
    }
    Config &cluster_interval(Duration interval) {
        return done(ratelimit_config_set_cluster_interval(config_, detail::nanoseconds(interval)));
    }
    Config &cluster_max_nodes(std::uint64_t most) {
        return done(ratelimit_config_set_cluster_max_nodes(config_, most));
    }

    const ratelimit_config *get() const noexcept { return config_; }

  private:
    Config &done(Result result) {
        detail::check(result);
        return *this;
    }

    ratelimit_config *config_ = nullptr;
};

/// A limiter, which is closed when this goes. Any number of threads may use it; it can be moved and not copied.
class Limiter {
  public:
    explicit Limiter(const Config &config) { detail::check(ratelimit_open(config.get(), &limiter_)); }
    /// A limit as text, as "100/minute burst 20".
    explicit Limiter(const char *limit) : Limiter(Config(limit)) {}
    explicit Limiter(const std::string &limit) : Limiter(Config(limit)) {}
    Limiter(std::uint64_t rate_limit, Duration time_window) : Limiter(Config(rate_limit, time_window)) {}

    Limiter(Limiter &&other) noexcept : limiter_(std::exchange(other.limiter_, 0)) {}
    Limiter &operator=(Limiter &&other) noexcept {
        std::swap(limiter_, other.limiter_);
        return *this;
    }
    Limiter(const Limiter &) = delete;
    Limiter &operator=(const Limiter &) = delete;
    ~Limiter() {
        if (limiter_ != 0) {
            static_cast<void>(close());
        }
    }

    // --- Deciding ---

    /// Whether one request of this client is allowed now. If so it is charged.
    [[nodiscard]] bool is_allowed(Key key) const noexcept { return ratelimit_is_allowed(limiter_, key.data(), key.size()); }

    Decision check(Key key, std::uint64_t cost = 1) const noexcept {
        return decided([&](ratelimit_decision *out) { return ratelimit_check(limiter_, key.data(), key.size(), cost, out); });
    }

    /// At a given time, since an origin of the caller's choice.
    Decision check_at(Key key, std::uint64_t cost, Duration now) const noexcept {
        return decided([&](ratelimit_decision *out) {
            return ratelimit_check_at(limiter_, key.data(), key.size(), cost, detail::nanoseconds(now), out);
        });
    }

    [[nodiscard]] Decision peek(Key key, std::uint64_t cost = 1) const noexcept {
        return decided([&](ratelimit_decision *out) { return ratelimit_peek(limiter_, key.data(), key.size(), cost, out); });
    }

    [[nodiscard]] Decision peek_at(Key key, std::uint64_t cost, Duration now) const noexcept {
        return decided([&](ratelimit_decision *out) {
            return ratelimit_peek_at(limiter_, key.data(), key.size(), cost, detail::nanoseconds(now), out);
        });
    }

    /// One request of each key, in order. Allocates; throws std::bad_alloc, and Error if nothing was decided.
    std::vector<Decision> check_many(const std::vector<Key> &keys, const std::vector<std::uint64_t> &costs = {}) const {
        if (!costs.empty() && costs.size() != keys.size()) {
            throw std::invalid_argument("check_many: give a cost for each key, or none");
        }
        const Parts parts(keys);
        std::vector<ratelimit_decision> decisions(keys.size());
        detail::check(ratelimit_check_many(limiter_, parts.data.data(), parts.sizes.data(),
                                           costs.empty() ? nullptr : costs.data(), keys.size(), decisions.data()));
        std::vector<Decision> answer;
        answer.reserve(decisions.size());
        for (const auto &decision : decisions) {
            answer.push_back(converted(decision));
        }
        return answer;
    }

    /// As check_many, for those who only want to know whether.
    std::vector<bool> allowed_many(const std::vector<Key> &keys) const {
        const Parts parts(keys);
        // std::vector<bool> has no array of bool to write to.
        std::vector<char> allowed(keys.size());
        static_assert(sizeof(bool) == sizeof(char), "a bool is a byte");
        detail::check(ratelimit_allowed_many(limiter_, parts.data.data(), parts.sizes.data(), keys.size(),
                                             reinterpret_cast<bool *>(allowed.data())));
        return std::vector<bool>(allowed.begin(), allowed.end());
    }

    /// Waits until the request is allowed. False if it cannot be within `timeout`, or if the limiter is closed.
    [[nodiscard]] bool acquire(Key key, std::uint64_t cost = 1, Duration timeout = never) const noexcept {
        bool acquired = false;
        static_cast<void>(
            ratelimit_acquire(limiter_, key.data(), key.size(), cost, detail::nanoseconds(timeout), &acquired));
        return acquired;
    }

    // --- Giving back, forgetting, blocking ---

    Result refund(Key key, std::uint64_t cost = 1) const noexcept {
        return ratelimit_refund(limiter_, key.data(), key.size(), cost);
    }
    Result refund_at(Key key, std::uint64_t cost, Duration now) const noexcept {
        return ratelimit_refund_at(limiter_, key.data(), key.size(), cost, detail::nanoseconds(now));
    }
    Result reset(Key key) const noexcept { return ratelimit_reset(limiter_, key.data(), key.size()); }
    Result reset_at(Key key, Duration now) const noexcept {
        return ratelimit_reset_at(limiter_, key.data(), key.size(), detail::nanoseconds(now));
    }
    /// Zero lifts the block.
    [[nodiscard]] Result block(Key key, Duration duration) const noexcept {
        return ratelimit_block(limiter_, key.data(), key.size(), detail::nanoseconds(duration));
    }

    // --- Limits ---

    [[nodiscard]] Result set_limit(const char *limit) const noexcept { return ratelimit_set_limit(limiter_, limit); }
    [[nodiscard]] Result set_limits(std::initializer_list<const char *> limits) const noexcept {
        return ratelimit_set_limits(limiter_, limits.begin(), limits.size());
    }
    /// A null pointer takes the client's own limit away.
    [[nodiscard]] Result set_override(Key key, const char *limit) const noexcept {
        return ratelimit_set_override(limiter_, key.data(), key.size(), limit);
    }
    Result clear_override(Key key) const noexcept { return ratelimit_clear_override(limiter_, key.data(), key.size()); }
    Result clear_overrides() const noexcept { return ratelimit_clear_overrides(limiter_); }

    // --- The rest ---

    /// All zeros if the limiter is closed.
    [[nodiscard]] ratelimit_statistics stats() const noexcept {
        ratelimit_statistics statistics{};
        statistics.struct_size = sizeof statistics;
        static_cast<void>(ratelimit_stats(limiter_, &statistics));
        return statistics;
    }

    /// The text of /metrics. Throws Error if the limiter is closed.
    [[nodiscard]] std::string prometheus() const {
        std::string text(4096, '\0');
        std::size_t needed = 0;
        Result result;
        while ((result = ratelimit_prometheus(limiter_, text.data(), text.size(), &needed)) ==
               RATELIMIT_ERR_BUFFER_TOO_SMALL) {
            text.resize(needed + 64);
        }
        detail::check(result);
        text.resize(needed - 1);
        return text;
    }

    [[nodiscard]] Result snapshot() const noexcept { return ratelimit_snapshot(limiter_); }

    /// Also done when this goes; only once.
    Result close() noexcept { return ratelimit_close(limiter_); }

    /// For calls of ratelimit.h; still owned by this.
    ratelimit_limiter get() const noexcept { return limiter_; }

  private:
    struct Parts {
        explicit Parts(const std::vector<Key> &keys) {
            data.reserve(keys.size());
            sizes.reserve(keys.size());
            for (const Key &key : keys) {
                data.push_back(key.data());
                sizes.push_back(key.size());
            }
        }
        std::vector<const std::uint8_t *> data;
        std::vector<std::size_t> sizes;
    };

    static Decision converted(const ratelimit_decision &decision) noexcept {
        return Decision{decision.allowed,
                        decision.limit,
                        decision.remaining,
                        detail::duration(decision.retry_after_ns),
                        detail::duration(decision.reset_after_ns),
                        RATELIMIT_OK};
    }

    template <typename Call> static Decision decided(Call call) noexcept {
        ratelimit_decision decision;
        const Result result = call(&decision);
        if (result == RATELIMIT_OK) {
            return converted(decision);
        }
        Decision open;
        open.result = result;
        return open;
    }

    ratelimit_limiter limiter_ = 0;
};

/// What a request says of itself: a name that ends with a zero byte, and a value.
struct Attribute {
    const char *name;
    Key value;
};

/// What rules say of a request. Fails open, as `Decision` does.
struct RuleDecision {
    bool allowed = true;
    /// `UINT64_MAX` for both if no rule applies.
    std::uint64_t limit = 0;
    std::uint64_t remaining = 0;
    Duration retry_after{};
    Duration reset_after{};
    /// The rule that binds; empty if none applies.
    std::string rule;
    /// The first rule that only watches and would have denied the request; empty if there is none.
    std::string shadow;
    /// What was wrong if nothing could be decided.
    Result result = RATELIMIT_OK;

    explicit operator bool() const noexcept { return allowed; }
};

/// Limits by other criteria than one key, from TOML: docs/rules.md.
class Rules {
  public:
    /// `config` has the other options: make it with `ratelimit_config_new_for_rules`. Throws Error.
    explicit Rules(const char *text, const ratelimit_config *config = nullptr) {
        detail::check(ratelimit_rules_open(text, config, &rules_));
    }
    Rules(Rules &&other) noexcept : rules_(std::exchange(other.rules_, 0)) {}
    Rules &operator=(Rules &&other) noexcept {
        std::swap(rules_, other.rules_);
        return *this;
    }
    ~Rules() {
        if (rules_ != 0) {
            static_cast<void>(ratelimit_rules_close(rules_));
        }
    }

    /// Decides a request: all rules that apply allow it and are charged, or none is.
    [[nodiscard]] RuleDecision check(std::initializer_list<Attribute> attributes, std::uint64_t cost = 1) const {
        return decided(ratelimit_rules_check, attributes, cost);
    }

    /// What `check` would say.
    [[nodiscard]] RuleDecision peek(std::initializer_list<Attribute> attributes, std::uint64_t cost = 1) const {
        return decided(ratelimit_rules_peek, attributes, cost);
    }

    /// Puts other rules in force, all at once. Rules whose name and `by` stay keep their counts.
    [[nodiscard]] Result replace(const char *text) const noexcept { return ratelimit_rules_replace(rules_, text); }

    /// Also done when this goes; only once.
    Result close() noexcept { return ratelimit_rules_close(std::exchange(rules_, 0)); }

    /// For calls of ratelimit.h; still owned by this.
    ratelimit_rules get() const noexcept { return rules_; }

  private:
    template <typename F>
    RuleDecision decided(F call, std::initializer_list<Attribute> attributes, std::uint64_t cost) const {
        std::vector<ratelimit_attribute> given;
        given.reserve(attributes.size());
        for (const Attribute &each : attributes) {
            given.push_back({each.name, each.value.data(), each.value.size()});
        }
        ratelimit_rule_decision told{};
        RuleDecision decision;
        decision.result = call(rules_, given.data(), given.size(), cost, &told);
        if (decision.result == RATELIMIT_OK) {
            decision.allowed = told.decision.allowed;
            decision.limit = told.decision.limit;
            decision.remaining = told.decision.remaining;
            decision.retry_after = detail::duration(told.decision.retry_after_ns);
            decision.reset_after = detail::duration(told.decision.reset_after_ns);
            decision.rule = told.rule;
            decision.shadow = told.shadow;
        }
        return decision;
    }

    ratelimit_rules rules_ = 0;
};

} // namespace ratelimit

#endif
