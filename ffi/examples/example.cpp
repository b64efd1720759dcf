// The same in C++17. Copy this folder to start from.
#include <cstdio>
#include <ratelimit.hpp>

int main() {
    try {
        ratelimit::Limiter limiter("100/minute burst 20");

        int allowed = 0;
        for (int i = 0; i < 30; i++) {
            allowed += limiter.is_allowed("client-7");
        }

        if (const auto decision = limiter.check("client-7"); !decision) {
            const std::chrono::duration<double> wait = decision.retry_after;
            std::printf("%d of 30 allowed; the limit is %llu, ask again in %.3f s\n", allowed,
                        static_cast<unsigned long long>(decision.limit), wait.count());
        }
    } catch (const ratelimit::Error &error) {
        std::fprintf(stderr, "the limiter could not be opened: %s (%s)\n", error.what(), error.name());
        return 1;
    }
}
