// The C++ header: what it owns, what it converts, and that nothing on the deciding path throws.
#include <ratelimit.hpp>

#include <cstdio>
#include <cstdlib>
#include <thread>

using namespace std::chrono_literals;
using ratelimit::Config;
using ratelimit::Decision;
using ratelimit::Error;
using ratelimit::Key;
using ratelimit::Limiter;

#define HOLDS(condition)                                                                                              \
    do {                                                                                                              \
        if (!(condition)) {                                                                                           \
            std::fprintf(stderr, "%s:%d: %s does not hold: %s\n", __FILE__, __LINE__, #condition,                     \
                         ratelimit::last_error_message().c_str());                                                    \
            std::abort();                                                                                             \
        }                                                                                                             \
    } while (0)

static_assert(noexcept(std::declval<const Limiter &>().is_allowed(std::declval<Key>())));
static_assert(noexcept(std::declval<const Limiter &>().check(std::declval<Key>())));
static_assert(noexcept(std::declval<const Limiter &>().refund(std::declval<Key>())));
static_assert(std::is_nothrow_move_constructible_v<Limiter> && !std::is_copy_constructible_v<Limiter>);
static_assert(std::is_nothrow_move_assignable_v<Config> && !std::is_copy_assignable_v<Config>);

template <typename F> static ratelimit::Result thrown(F body) {
    try {
        body();
    } catch (const Error &error) {
        HOLDS(*error.what() != '\0' && *error.name() != '\0');
        return error.code();
    }
    return RATELIMIT_OK;
}

int main() {
    Limiter limiter("2/minute");
    const std::string text = "a";
    const std::vector<unsigned char> bytes{'a'};
    HOLDS(limiter.is_allowed("a"));
    HOLDS(limiter.is_allowed(text));
    HOLDS(!limiter.is_allowed(bytes));
    HOLDS(!limiter.is_allowed(std::string_view("a\0b", 1)));
    HOLDS(limiter.is_allowed(std::string_view("a\0b", 3)));
    HOLDS(!limiter.is_allowed({text.data(), text.size()}));
    HOLDS(!limiter.is_allowed(std::array<std::byte, 1>{std::byte{'a'}}));
    HOLDS(limiter.is_allowed("") && limiter.is_allowed(std::string_view()) && !limiter.is_allowed({nullptr, 0}));

    Decision decision = limiter.check("b", 2);
    HOLDS(decision && decision.limit == 2 && decision.remaining == 0 && decision.retry_after == 0ns);
    HOLDS(decision.reset_after > 59s && decision.reset_after <= 1min);
    HOLDS(limiter.check("b", 3).retry_after == ratelimit::never);
    HOLDS(limiter.refund("b") == RATELIMIT_OK && limiter.peek("b"));
    HOLDS(limiter.check_at("t", 2, 0s) && limiter.peek_at("t", 1, 10s).retry_after == 20s);
    HOLDS(limiter.refund_at("t", 1, 10s) == RATELIMIT_OK && limiter.check_at("t", 1, 10s));
    HOLDS(limiter.reset_at("t", 10s) == RATELIMIT_OK && limiter.peek_at("t", 1, 10s).remaining == 2);
    HOLDS(limiter.block("b", 1min) == RATELIMIT_OK && !limiter.peek("b"));
    HOLDS(limiter.reset("b") == RATELIMIT_OK && limiter.peek("b"));

    const auto decisions = limiter.check_many({"m", "m", "m", text}, {1, 2, 1, 0});
    HOLDS(decisions.size() == 4 && decisions[0] && !decisions[1] && decisions[2] && decisions[3]);
    const auto allowed = limiter.allowed_many({"n", "n", "n"});
    HOLDS(allowed.size() == 3 && allowed[0] && allowed[1] && !allowed[2]);
    HOLDS(limiter.check_many({}).empty());

    HOLDS(limiter.set_limit("4/minute") == RATELIMIT_OK && limiter.peek("z").limit == 4);
    HOLDS(limiter.set_limit("4/fortnight") == RATELIMIT_ERR_INVALID_LIMIT);
    HOLDS(limiter.set_limits({"4/minute"}) == RATELIMIT_OK);
    HOLDS(limiter.set_override("z", "9/s") == RATELIMIT_OK && limiter.peek("z").limit == 9);
    HOLDS(limiter.clear_override("z") == RATELIMIT_OK && limiter.peek("z").limit == 4);
    HOLDS(limiter.set_override("z", nullptr) == RATELIMIT_OK && limiter.clear_overrides() == RATELIMIT_OK);
    HOLDS(limiter.acquire("w") && !limiter.acquire("w", 99) && !limiter.acquire("w", 4, 1ms));
    HOLDS(limiter.stats().allowed > 5 && limiter.prometheus().find("ratelimit_denied_total") != std::string::npos);
    HOLDS(limiter.snapshot() != RATELIMIT_OK);

    HOLDS(thrown([] { Limiter bad("100/fortnight"); }) == RATELIMIT_ERR_INVALID_LIMIT);
    HOLDS(thrown([] { Limiter bad(0, 1s); }) == RATELIMIT_ERR_OPTION);
    HOLDS(thrown([] { Config("1/s").clock("sundial"); }) == RATELIMIT_ERR_OPTION);
    HOLDS(thrown([] { Config("1/s").add_limit("2/x"); }) == RATELIMIT_ERR_INVALID_LIMIT);
    Config config(10, 1s);
    config.burst(3).strict().max_keys(100).clock("coarse").overflow("deny").hash_key("00000000000000000000000000000000");
    Limiter other(config);
    HOLDS(other.check("a").limit == 3);
    Limiter several(Config("10/s").add_limit("1/day"));
    HOLDS(several.is_allowed("a") && !several.is_allowed("a"));

    // What was moved away fails open and says so; what is closed too. Each is closed once.
    Limiter moved(std::move(other));
    HOLDS(moved.check("a").limit == 3);
    moved = std::move(several);
    HOLDS(moved.check("b").limit == 1);
    Limiter empty(std::move(moved));
    HOLDS(moved.is_allowed("a")); // NOLINT: that is what is tested.
    HOLDS(moved.check("a").result == RATELIMIT_ERR_CLOSED && moved.check("a").allowed);
    HOLDS(empty.close() == RATELIMIT_OK && empty.close() == RATELIMIT_ERR_CLOSED);
    HOLDS(empty.check("a").result == RATELIMIT_ERR_CLOSED && empty.stats().allowed == 0 && !empty.acquire("a"));
    HOLDS(thrown([&] { static_cast<void>(empty.prometheus()); }) == RATELIMIT_ERR_CLOSED);

    // Threads share it by reference.
    Limiter shared(1000, 1h);
    std::vector<std::thread> threads;
    std::array<int, 4> counts{};
    for (int &count : counts) {
        threads.emplace_back([&] {
            for (int i = 0; i < 500; i++) {
                count += shared.is_allowed("client-7");
            }
        });
    }
    for (auto &thread : threads) {
        thread.join();
    }
    HOLDS(counts[0] + counts[1] + counts[2] + counts[3] == 1000);

    const char *toml = "[[rule]]\nname = \"login\"\nwhen.path.prefix = \"/login\"\nby = [\"ip\"]\nlimits = \"2/hour\"\n";
    ratelimit::Rules rules(toml);
    HOLDS(rules.check({{"ip", "a"}, {"path", "/login"}}).remaining == 1);
    HOLDS(rules.check({{"ip", "a"}, {"path", "/login"}}).rule == "login");
    const auto told = rules.check({{"ip", "a"}, {"path", "/login"}});
    HOLDS(!told && told.limit == 2 && told.retry_after > 1700s && told.shadow.empty());
    HOLDS(rules.check({{"path", "/"}}).rule.empty() && rules.peek({{"ip", "b"}, {"path", "/login"}}, 3).retry_after == ratelimit::never);
    HOLDS(rules.replace("[[rule]]") == RATELIMIT_ERR_OPTION && rules.replace(toml) == RATELIMIT_OK);
    ratelimit::Rules others(std::move(rules));
    HOLDS(rules.check({}).result == RATELIMIT_ERR_CLOSED && others.check({}).allowed);
    HOLDS(others.close() == RATELIMIT_OK && others.close() == RATELIMIT_ERR_CLOSED);
    HOLDS(thrown([] { ratelimit::Rules wrong("rule = 1"); }) == RATELIMIT_ERR_OPTION);
    std::puts("cpp: ok");
}
